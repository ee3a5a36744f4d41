//! Compares `hypercall-abi` with Xen's C headers (Debian's `libxen-dev`), by way of a C compiler: size of every structure,
//! offset and size of every field, value of every constant, and that no member of a C structure was left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use abi_layout::{CONSTANTS, Constant, STRUCTURES, Structure};
use hypercall_abi::Error;
use hypercall_abi::io::xenbus;

/// Headers in an order that satisfies their own dependencies.
const HEADERS: &[&str] = &[
    "xen.h",
    "arch-x86/cpuid.h",
    "arch-x86/hvm/start_info.h",
    "domctl.h",
    "elfnote.h",
    "errno.h",
    "event_channel.h",
    "features.h",
    "grant_table.h",
    "hvm/hvm_op.h",
    "hvm/hvm_vcpu.h",
    "hvm/params.h",
    "hvm/save.h",
    "io/blkif.h",
    "io/console.h",
    "io/netif.h",
    "io/ring.h",
    "io/xenbus.h",
    "io/xs_wire.h",
    "memory.h",
    "physdev.h",
    "platform.h",
    "sched.h",
    "sysctl.h",
    "vcpu.h",
    "version.h",
];

/// Structures with no counterpart in the headers, and why.
const STRUCTURES_OF_OUR_OWN: &[&str] = &[
    "error::Error",              // a number
    "domain::DomainId",          // a number
    "grant_table::GrantStatus",  // a number
    "guest_handle::GuestHandle", // generic; its size is checked below
    "memory::E820Entry",         // the BIOS's format, which the headers only mention
];

/// Numbers with no counterpart in the headers: sizes that C leaves to `sizeof`, and numbers that C only writes in comments.
const CONSTANTS_OF_OUR_OWN: &[&str] = &[
    "PAGE_SIZE",
    "cpuid::HYPERCALL_MSR",
    "cpuid::LEAF_HVM",
    "cpuid::LEAF_HYPERCALL",
    "cpuid::LEAF_PV",
    "cpuid::LEAF_TIME",
    "cpuid::LEAF_VERSION",
    "event_channel::fifo::WORDS_PER_PAGE",
    "grant_table::ENTRIES_PER_PAGE_V1",
    "hypercall::NUMBERS",
    "hypercall::PAGE_ENTRY_SIZE",
    "io::block::SLOT_SIZE",
    "io::console::INPUT_SIZE",
    "io::console::OUTPUT_SIZE",
    "io::ring::HEADER_SIZE",
    "memory::COMMAND_BITS",
    "memory::E820_ENTRY_SIZE",
    "memory::e820::ACPI",
    "memory::e820::NVS",
    "memory::e820::RAM",
    "memory::e820::RESERVED",
    "memory::e820::UNUSABLE",
    "memory::flag::ADDRESS_BITS_MASK",
    "start_info::VERSION",
    "version::COMMAND_LINE_LENGTH",
];

/// Names that newer interface versions hide: looked up with an older one.
const HIDDEN_NAMES: &[&str] = &[
    "HVMOP_set_pci_intx_level",
    "HVMOP_set_isa_irq_level",
    "HVMOP_set_pci_link_route",
];

/// C types that have no name of their own.
const UNNAMED_TYPES: &[(&str, &str)] = &[(
    "domctl::SchedVcpus",
    "__typeof__(((struct xen_domctl_scheduler_op *)0)->u.v)",
)];

/// C structures that end in an array; ours stop before it.
const TRAILING_ARRAYS: &[(&str, &str)] = &[
    ("blkif_sring", "ring"),
    ("xen_build_id", "buf"),
    ("physdev_pci_device_add", "optarr"),
];

#[test]
fn every_structure_and_constant_names_its_counterpart() {
    let anonymous_structures = STRUCTURES
        .iter()
        .filter(|structure| structure.c.is_empty() || !structure.plain)
        .map(|structure| structure.rust)
        .filter(|name| !STRUCTURES_OF_OUR_OWN.contains(name) && unnamed_type(name).is_none());
    let anonymous_constants = CONSTANTS
        .iter()
        .filter(|constant| constant.c.is_empty())
        .map(|constant| constant.rust)
        .filter(|name| !CONSTANTS_OF_OUR_OWN.contains(name));
    let missing = anonymous_structures
        .chain(anonymous_constants)
        .collect::<Vec<_>>();
    assert!(
        missing.is_empty(),
        "without #[repr(C)] or #[doc(alias = \"<name in Xen's headers>\")], so nothing checks them: {missing:#?}"
    );
}

#[test]
fn structures_lie_as_in_c() {
    let checked = STRUCTURES
        .iter()
        .filter(|structure| c_type(structure).is_some())
        .collect::<Vec<_>>();
    let mut expected = Vec::new();
    let mut body = String::new();
    for structure in &checked {
        let Structure {
            rust,
            c,
            size,
            fields,
            ..
        } = structure;
        let c_type = c_type(structure).unwrap();
        match trailing_array(c) {
            Some(array) => writeln!(body, "NUMBER(offsetof({c_type}, {array}));").unwrap(),
            None => writeln!(body, "NUMBER(sizeof({c_type}));").unwrap(),
        }
        expected.push((format!("size of {rust} ({c})"), *size));
        for field in fields.iter().filter(|field| !field.c.is_empty()) {
            writeln!(body, "NUMBER(offsetof({c_type}, {}));", field.c).unwrap();
            expected.push((
                format!("offset of {rust}::{} ({})", field.rust, field.c),
                field.offset,
            ));
            writeln!(body, "NUMBER(sizeof((({c_type} *)0)->{}));", field.c).unwrap();
            expected.push((
                format!("size of {rust}::{} ({})", field.rust, field.c),
                field.size,
            ));
        }
    }
    let actual = run_c("structures", TOOLS, &body);
    assert_eq!(actual.len(), expected.len());
    let differences = expected
        .into_iter()
        .zip(actual)
        .filter(|((_, ours), theirs)| *ours as u64 != *theirs)
        .map(|((what, ours), theirs)| format!("{what}: {ours}, in C {theirs}"))
        .collect::<Vec<_>>();
    assert!(
        checked.len() > 150,
        "only {} structures were found",
        checked.len()
    );
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn constants_have_the_values_of_c() {
    let named = |hidden: bool| {
        CONSTANTS
            .iter()
            .filter(|constant| !constant.c.is_empty())
            .filter(move |constant| HIDDEN_NAMES.contains(&constant.c) == hidden)
            .collect::<Vec<_>>()
    };
    let recent = named(false);
    assert!(recent.len() > 700, "only {} constants were found", recent.len());
    let mut differences = compare_constants("constants", TOOLS, &recent);
    differences.extend(compare_constants("hidden-constants", OLD_GUEST, &named(true)));
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn errors_have_the_numbers_of_c() {
    let prelude = "#define __XEN__\n#define XEN_ERRNO(name, value) XEN_##name = value,\nenum {\n\
                   #include <xen/errno.h>\n};\n";
    let body = Error::ALL
        .iter()
        .map(|(_, name)| format!("NUMBER(XEN_{name});\n"))
        .collect::<String>();
    let theirs = run_c("errors", prelude, &body);
    let ours = Error::ALL
        .iter()
        .map(|(error, _)| error.number() as u64)
        .collect::<Vec<_>>();
    assert_eq!(ours, theirs);
}

#[test]
fn device_states_have_the_numbers_of_c() {
    let names = [
        "Unknown",
        "Initialising",
        "InitWait",
        "Initialised",
        "Connected",
        "Closing",
        "Closed",
        "Reconfiguring",
        "Reconfigured",
    ];
    let body = names
        .iter()
        .map(|name| format!("NUMBER(XenbusState{name});\n"))
        .collect::<String>();
    let ours = xenbus::State::ALL
        .iter()
        .map(|state| u64::from(state.number()))
        .collect::<Vec<_>>();
    assert_eq!(ours, run_c("states", TOOLS, &body));
}

#[test]
fn guest_handles_are_one_word() {
    let sizes = run_c(
        "handles",
        TOOLS,
        "NUMBER(sizeof(XEN_GUEST_HANDLE(void)));\nNUMBER(sizeof(XEN_GUEST_HANDLE_64(uint8)));\n",
    );
    assert_eq!(sizes, [size_of::<hypercall_abi::GuestHandle<u8>>() as u64; 2]);
}

/// A member that we do not name would pass the comparison above as padding: the compiler's debugging information lists all.
#[test]
fn no_member_of_a_c_structure_is_left_out() {
    let members = members_in_c();
    let mut missing = Vec::new();
    for structure in STRUCTURES
        .iter()
        .filter(|structure| structure.plain && !structure.c.is_empty())
    {
        let Some(all) = members.get(structure.c) else {
            continue;
        };
        let named = structure
            .fields
            .iter()
            .map(|field| field.c.split('.').next().unwrap())
            .collect::<BTreeSet<_>>();
        for member in all {
            if !named.contains(&**member) && trailing_array(structure.c) != Some(member) {
                missing.push(format!("{} ({}): {member}", structure.rust, structure.c));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

fn unnamed_type(name: &str) -> Option<&'static str> {
    UNNAMED_TYPES
        .iter()
        .find(|(rust, _)| *rust == name)
        .map(|(_, c_type)| *c_type)
}

fn trailing_array(c_name: &str) -> Option<&'static str> {
    TRAILING_ARRAYS
        .iter()
        .find(|(structure, _)| *structure == c_name)
        .map(|(_, array)| *array)
}

fn c_type(structure: &Structure) -> Option<String> {
    if !structure.plain || STRUCTURES_OF_OUR_OWN.contains(&structure.rust) {
        return None;
    }
    match unnamed_type(structure.rust) {
        Some(expression) => Some(expression.to_owned()),
        None => Some(format!("struct {}", structure.c)),
    }
}

fn compare_constants(program: &str, prelude: &str, constants: &[&Constant]) -> Vec<String> {
    let body = constants
        .iter()
        .map(|constant| format!("NUMBER({});\n", constant.c))
        .collect::<String>();
    let theirs = run_c(program, prelude, &body);
    assert_eq!(theirs.len(), constants.len());
    let pairs = constants.iter().zip(theirs);
    pairs
        .filter(|(constant, theirs)| constant.value != *theirs)
        .map(|(constant, theirs)| {
            format!(
                "{} ({}): {:#x}, in C {theirs:#x}",
                constant.rust, constant.c, constant.value
            )
        })
        .collect()
}

/// The newest interface, as the hypervisor and the tools see it.
const TOOLS: &str = "#define __XEN_TOOLS__ 1\n";

/// An interface before the device model's calls moved to dm_op.
const OLD_GUEST: &str = "#define __XEN_INTERFACE_VERSION__ 0x00040800\n";

fn source(prelude: &str, body: &str) -> String {
    // errno.h lists XSD_ERROR's names only when the C library's are known.
    let mut text =
        String::from("#include <errno.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n");
    text.push_str(prelude);
    if !prelude.contains("XEN_ERRNO") {
        for header in HEADERS {
            let tools_only = ["domctl.h", "sysctl.h"].contains(header);
            if !tools_only || prelude == TOOLS {
                writeln!(text, "#include <xen/{header}>").unwrap();
            }
        }
    }
    text.push_str(
        "#define NUMBER(value) printf(\"%llu\\n\", (unsigned long long)(value))\nint main(void)\n{\n",
    );
    text.push_str(body);
    text.push_str("return 0;\n}\n");
    text
}

/// Compiles and runs a C program; each `NUMBER(x)` in `body` gives one number.
fn run_c(program: &str, prelude: &str, body: &str) -> Vec<u64> {
    let folder = folder();
    let file = folder.join(format!("{program}.c"));
    let binary = folder.join(program);
    fs::write(&file, source(prelude, body)).unwrap();
    compile(&file, &["-o", binary.to_str().unwrap()]);
    let output = Command::new(&binary).output().unwrap();
    assert!(output.status.success(), "{}: {}", binary.display(), output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// The members of every named C structure, by the compiler's debugging information.
fn members_in_c() -> BTreeMap<String, Vec<String>> {
    let folder = folder();
    let file = folder.join("members.c");
    let object = folder.join("members.o");
    fs::write(&file, source(TOOLS, "")).unwrap();
    compile(
        &file,
        &[
            "-c",
            "-gdwarf-4",
            "-fno-eliminate-unused-debug-types",
            "-o",
            object.to_str().unwrap(),
        ],
    );
    let output = Command::new("readelf")
        .arg("--debug-dump=info")
        .arg(&object)
        .output()
        .expect("readelf is missing: apt-get install binutils");
    assert!(output.status.success(), "readelf: {}", output.status);
    parse_members(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `readelf`'s text: entries open with `<depth><offset>: ... (DW_TAG_x)`, attributes follow on their own lines.
fn parse_members(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut members = BTreeMap::<String, Vec<String>>::new();
    // The structure at each nesting depth: its name once known, and what the current entry is.
    let mut open = BTreeMap::<usize, String>::new();
    let (mut depth, mut tag) = (0, "");
    for line in text.lines() {
        if let Some(start) = line.find("(DW_TAG_") {
            tag = line[start + 1..].trim_end_matches(')');
            let digits = line
                .trim_start()
                .trim_start_matches('<')
                .split('>')
                .next()
                .unwrap_or("");
            depth = usize::from_str_radix(digits, 16).unwrap_or(0);
            open.retain(|&level, _| level < depth);
        } else if let Some((_, name)) = line.split_once("DW_AT_name") {
            // Either `: name` or `: (indirect string, offset: 0x12): name`.
            let name = name.rsplit(": ").next().unwrap().trim().to_owned();
            match tag {
                "DW_TAG_structure_type" => {
                    members.entry(name.clone()).or_default();
                    open.insert(depth, name);
                }
                "DW_TAG_member" if depth > 0 => {
                    if let Some(structure) = open.get(&(depth - 1)) {
                        members.get_mut(structure).unwrap().push(name);
                    }
                }
                _ => {}
            }
        }
    }
    assert!(members.len() > 150, "readelf's output was not understood");
    members
}

fn compile(file: &Path, arguments: &[&str]) {
    assert!(
        Path::new("/usr/include/xen/xen.h").exists(),
        "Xen's C headers are missing, and this test compares with them: apt-get install libxen-dev"
    );
    let output = Command::new("gcc")
        .args(["-std=gnu11", "-w"])
        .args(arguments)
        .arg(file)
        .output()
        .expect("the C compiler is missing: apt-get install gcc libc6-dev");
    assert!(
        output.status.success(),
        "Xen's headers do not have what our documentation aliases name:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-layout");
    fs::create_dir_all(&folder).unwrap();
    folder
}
