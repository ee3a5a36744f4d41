//! Every place in the core from which the code that panics can be called.

use std::collections::{HashMap, HashSet};

use iced_x86::{Mnemonic, Register};
use serde::Serialize;

use crate::program::{Function, Origin, Origins, Program, Step, is_ours};

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An index beyond the end.
    Bounds,
    /// A range that does not fit, of bytes or text, or lengths that differ.
    Slice,
    /// A sum, difference, product or shift that does not fit.
    Overflow,
    /// A division by zero.
    Division,
    /// `unwrap` or `expect`.
    Unwrap,
    /// `assert!`, `panic!`, `unreachable!`.
    Explicit,
    /// No memory, or more asked for than an allocation can have.
    Allocation,
    /// A count of references that would overflow, and instructions that trap on purpose.
    Abort,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub const ALL: [Kind; 8] = [
        Kind::Bounds,
        Kind::Slice,
        Kind::Overflow,
        Kind::Division,
        Kind::Unwrap,
        Kind::Explicit,
        Kind::Allocation,
        Kind::Abort,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bounds => "bounds",
            Kind::Slice => "slice",
            Kind::Overflow => "overflow",
            Kind::Division => "division",
            Kind::Unwrap => "unwrap",
            Kind::Explicit => "explicit",
            Kind::Allocation => "allocation",
            Kind::Abort => "abort",
        }
    }
}

/// A place from which a panic can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Site {
    /// What would be wrong.
    pub kind: Kind,
    /// The crate whose source says so.
    #[serde(rename = "crate")]
    pub crate_name: String,
    /// Where its source says so.
    pub origin: Origin,
    /// Whether the panic itself would name that place. Otherwise it would name one in the standard library, or none.
    pub named: bool,
    /// The function whose code it is in, after inlining.
    pub function: String,
    /// Whether that function can run when boot is over.
    pub after_boot: bool,
    /// For others' code that was inlined into ours: where ours calls it.
    pub called_from: Option<Origin>,
    /// The call or jump itself.
    pub address: u64,
}

/// Functions that end in a panic whatever they are given: what is counted are the calls of these.
fn panicking(name: &str) -> Option<Kind> {
    let (path, generic) = name.split_once("::<").unwrap_or((name, ""));
    if let Some(what) = path.strip_prefix("core::panicking::panic_const::panic_const_") {
        let division = what.starts_with("div") || what.starts_with("rem") || what.contains("by_zero");
        return Some(if division { Kind::Division } else { Kind::Overflow });
    }
    match path {
        "core::panicking::panic_bounds_check" => Some(Kind::Bounds),
        "core::option::unwrap_failed" | "core::option::expect_failed" | "core::result::unwrap_failed" => {
            Some(Kind::Unwrap)
        }
        _ if path.starts_with("core::panicking::") || path.starts_with("core::cell::panic_") => {
            Some(Kind::Explicit)
        }
        _ if path.starts_with("core::slice::index::slice_")
            || path.starts_with("core::str::slice_error_fail")
            || path.ends_with("::len_mismatch_fail")
            || (path.starts_with("<alloc::")
                && (path.ends_with("assert_failed") || generic.ends_with("assert_failed"))) =>
        {
            Some(Kind::Slice)
        }
        "alloc::alloc::handle_alloc_error"
        | "alloc::raw_vec::handle_error"
        | "alloc::raw_vec::capacity_overflow" => Some(Kind::Allocation),
        // Growing and boxing end the program where there is no memory: what is counted is who grows and boxes.
        _ if name.starts_with("alloc::") || name.starts_with("<alloc::") => {
            const INFALLIBLE: [&str; 4] = [
                "grow_one",
                "do_reserve_and_handle",
                "box_new_uninit",
                "into_boxed_slice",
            ];
            let grows = INFALLIBLE.iter().any(|last| name.contains(last));
            grows.then_some(Kind::Allocation)
        }
        _ if path.contains("::__rdl_alloc_error_handler")
            || path.contains("::__rust_alloc_error_handler") =>
        {
            Some(Kind::Allocation)
        }
        _ => None,
    }
}

/// Finds them all, in the order of their addresses. `after_boot` are the functions that can run when boot is over.
pub fn find(program: &Program, origins: &Origins<'_>, after_boot: &HashSet<usize>) -> Vec<Site> {
    let sinks: HashMap<u64, Kind> = program
        .functions
        .iter()
        .filter_map(|function| Some((function.start, panicking(&function.name)?)))
        .collect();
    let mut sites = Vec::new();
    for (number, function) in program.functions.iter().enumerate() {
        let after_boot = after_boot.contains(&number);
        if sinks.contains_key(&function.start) || function.name.ends_with("rust_begin_unwind") {
            continue;
        }
        let returns = |step: Step<'_>| match step.target() {
            Some(target) => {
                !sinks.contains_key(&target)
                    && program.at(target).is_none_or(|callee| program.returns(callee))
            }
            None => true,
        };
        for step in function.steps() {
            if is_abort(function, step) {
                let chain = origins.chain(step.address());
                sites.push(Site {
                    after_boot,
                    ..site(function, step, Kind::Abort, None, &chain)
                });
            }
            let target = step.target().or_else(|| program.constant_target(step));
            let Some(&kind) = target.and_then(|target| sinks.get(&target)) else {
                continue;
            };
            let chain = origins.chain(step.address());
            let counts_references = chain
                .iter()
                .any(|origin| origin.file == "library/alloc/src/sync.rs");
            let kind = match kind {
                Kind::Explicit if counts_references => Kind::Abort,
                kind => kind,
            };
            for location in locations(program, function, step, &returns) {
                sites.push(Site {
                    after_boot,
                    ..site(function, step, kind, location, &chain)
                });
            }
        }
    }
    sites
}

/// A trap that something jumps to, and not only what is put behind calls that never come back.
fn is_abort(function: &Function, step: Step<'_>) -> bool {
    let previous = step
        .index
        .checked_sub(1)
        .and_then(|previous| function.step(previous));
    step.instruction.mnemonic() == Mnemonic::Ud2
        && (!previous.is_some_and(|previous| previous.is_call()) || function.is_jumped_to(step.address()))
}

/// The `Location`s that a call hands to the panic: several where the compiler joined the ends of several paths.
fn locations(
    program: &Program,
    function: &Function,
    step: Step<'_>,
    returns: &dyn Fn(Step<'_>) -> bool,
) -> Vec<Option<Origin>> {
    // It is the last argument: the highest of these registers that holds one.
    const ARGUMENTS: [Register; 6] = [
        Register::R9,
        Register::R8,
        Register::RCX,
        Register::RDX,
        Register::RSI,
        Register::RDI,
    ];
    for register in ARGUMENTS {
        let found: Vec<Origin> = function
            .constants_in(step.index, register, returns)
            .into_iter()
            .filter_map(|constant| location(program, constant?))
            .collect();
        if !found.is_empty() {
            return found.into_iter().map(Some).collect();
        }
    }
    vec![None]
}

/// A `core::panic::Location` among the constants: a file's name, a line, a column.
fn location(program: &Program, address: u64) -> Option<Origin> {
    let (text, length) = (program.constant(address)?, program.constant(address + 8)?);
    let place = program.constant(address + 16)?;
    let (line, column) = (place as u32, (place >> 32) as u32);
    if !(5..512).contains(&length) || line == 0 || line > 1 << 20 || column == 0 || column > 1 << 12 {
        return None;
    }
    let file = std::str::from_utf8(program.bytes(text, length as usize)?).ok()?;
    file.ends_with(".rs").then(|| Origin::new(file, line, column))
}

fn site(function: &Function, step: Step<'_>, kind: Kind, location: Option<Origin>, chain: &[Origin]) -> Site {
    let outside = |origin: &&Origin| !origin.is_library() && !origin.file.is_empty();
    let named = location.as_ref().is_some_and(|origin| !origin.is_library());
    // Who asked: the first outside of the standard library, if the panic does not say so itself.
    let origin = location
        .filter(|origin| !origin.is_library() || chain.iter().find(outside).is_none())
        .or_else(|| chain.iter().find(outside).cloned())
        .or_else(|| chain.first().cloned())
        .unwrap_or_else(|| Origin::new("", 0, 0));
    let crate_name = match origin.file.as_str() {
        "" => function
            .name
            .split("::")
            .next()
            .unwrap_or_default()
            .trim_start_matches('<')
            .to_owned(),
        _ => origin.crate_name(),
    };
    let called_from = (!is_ours(&crate_name))
        .then(|| chain.iter().find(|origin| is_ours(&origin.crate_name())).cloned())
        .flatten();
    Site {
        kind,
        crate_name,
        origin,
        named,
        function: function.name.clone(),
        after_boot: false,
        called_from,
        address: step.address(),
    }
}
