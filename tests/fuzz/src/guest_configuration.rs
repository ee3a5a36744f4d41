//! xl.cfg files.

use xenolith::config::syntax::{Content, Entry, Value, parse};
use xenolith::config::{GuestConfig, Interface, MacAddress, Placement, Scheduling, cap_max};
use xenolith::cpu_list::CpuList;
use xenolith::failure::Failure;

const SOURCE: &str = "t.cfg";

/// The input is the file; what is no UTF-8 is replaced, as no file of another kind gets that far.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let entries = match parse(SOURCE, &text) {
        Ok(entries) => entries,
        Err(failure) => return has_place(&failure, &text),
    };
    for (index, entry) in entries.iter().enumerate() {
        let others = &entries[index + 1..];
        assert!(others.iter().all(|other| other.key != entry.key), "a key twice");
    }
    prints_and_parses(&entries);
    match GuestConfig::from_entries(&entries, None) {
        Ok(config) => check(&config),
        // Only what is missing has no line.
        Err(failure) if failure.message.contains(" is missing") => assert!(failure.advice.is_some()),
        Err(failure) => has_place(&failure, &text),
    }
}

/// Each mistake names a line that there is, and says what was expected.
fn has_place(failure: &Failure, text: &str) {
    let line = failure
        .message
        .strip_prefix("t.cfg:")
        .and_then(|rest| rest.split_once(": "))
        .and_then(|(line, _)| line.parse::<usize>().ok());
    let lines = text.matches('\n').count() + 1;
    assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{failure}");
    assert!(failure.advice.as_ref().is_some_and(|advice| !advice.is_empty()));
}

/// Settings that are written down again are read as the same.
fn prints_and_parses(entries: &[Entry]) {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&entry.key);
        text.push_str(" = ");
        print(&entry.value.content, &mut text);
        text.push('\n');
    }
    let again = parse(SOURCE, &text).expect("what we print can be read");
    assert_eq!(again.len(), entries.len());
    for (before, after) in entries.iter().zip(&again) {
        assert_eq!(before.key, after.key);
        assert!(same(&before.value, &after.value), "{before:?} {after:?}");
    }
}

fn print(content: &Content, into: &mut String) {
    match content {
        Content::Number(number) => into.push_str(&number.to_string()),
        Content::Text(text) => {
            into.push('"');
            for character in text.chars() {
                match character {
                    '\n' => into.push_str("\\n"),
                    '"' | '\\' => into.extend(['\\', character]),
                    plain => into.push(plain),
                }
            }
            into.push('"');
        }
        Content::List(values) => {
            into.push('[');
            for value in values {
                print(&value.content, into);
                into.push(',');
            }
            into.push(']');
        }
    }
}

fn same(before: &Value, after: &Value) -> bool {
    match (&before.content, &after.content) {
        (Content::List(before), Content::List(after)) => {
            before.len() == after.len()
                && before
                    .iter()
                    .zip(after)
                    .all(|(before, after)| same(before, after))
        }
        (before, after) => before == after,
    }
}

fn check(config: &GuestConfig) {
    assert!(!config.name.is_empty() && config.name.len() <= 64);
    assert!(!config.name.contains('/') && !config.name.starts_with('.'));
    assert!(!config.kernel.as_os_str().is_empty());
    assert!(1 <= config.memory && config.memory <= config.max_memory);
    assert!(1 <= config.vcpus && config.vcpus <= config.max_vcpus && config.max_vcpus <= 128);
    let shape = config.shape();
    assert_eq!(
        (shape.memory >> 20, shape.max_memory >> 20),
        (config.memory, config.max_memory)
    );
    for (index, disk) in config.disks.iter().enumerate() {
        let others = &config.disks[index + 1..];
        assert!(
            others.iter().all(|other| other.number != disk.number),
            "a disk twice"
        );
        assert!(!disk.target.as_os_str().is_empty() && !disk.device.contains('/'));
    }
    for Interface { mac, bridge } in &config.interfaces {
        assert!(!bridge.is_empty() && bridge.len() <= 15 && !bridge.contains('/'));
        let group =
            |mac: &MacAddress| u8::from_str_radix(&mac.to_string()[..2], 16).is_ok_and(|it| it & 1 != 0);
        assert!(!mac.as_ref().is_some_and(group), "a group's address");
    }
    check_scheduling(&config.scheduling, config.max_vcpus);
    // Restarts and the monitor read it from a record.
    let record = serde_json::to_string(config).expect("a record can be written");
    let again: GuestConfig = serde_json::from_str(&record).expect("a record can be read");
    assert_eq!(&again, config);
}

fn check_scheduling(scheduling: &Scheduling, max_vcpus: u32) {
    assert!(scheduling.weight != Some(0) && scheduling.cap.is_none_or(|cap| cap <= cap_max(max_vcpus)));
    assert!(scheduling.pool.as_ref().is_none_or(|pool| !pool.is_empty()));
    for placement in [&scheduling.hard, &scheduling.soft].into_iter().flatten() {
        if let Placement::Each(lists) = placement {
            assert!(
                !lists.is_empty() && lists.len() <= max_vcpus as usize,
                "lists for nobody"
            );
        }
        for list in (0..max_vcpus).filter_map(|vcpu| placement.of(vcpu)) {
            let again: CpuList = list.to_string().parse().expect("what we print can be read");
            assert_eq!(&again, list);
        }
    }
}

/// What operators write, and each kind of mistake.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let whole = "# a guest\nname = \"web\" ; kernel='/boot/vmlinuz'\nramdisk = \"/initrd\"\nroot='/dev/xvda'\n\
        extra = 'ro qu\\'iet\\n'\nmemory = 0x100\nmaxmem = \"512\"\nvcpus=2\nmaxvcpus = 4\n\
        disk = [ 'file:/a.img,xvda,w',\n  \"format=raw,vdev=xvdb,access=ro,target=/b,c\", '/c,raw,sda1,r' ]\n\
        vif = [ 'mac=00:16:3e:00:00:01,bridge=br0', '' ]\ntype = \"pvh\"\non_crash = 'preserve'\n\
        uuid = '8a0a3c4e-1b2d-4f60-9c7e-0123456789ab'\n";
    let numbered: [(&'static str, &str); 8] = [
        ("whole", whole),
        ("smallest", "name='a'\nkernel='/k'"),
        ("continued", "name = \\\n 'b' # c\nkernel='k'\ncmdline=\"é\""),
        ("unknown", "name='web'\nkernel='/k'\nmemroy=256"),
        (
            "placed",
            "name='web'\nkernel='/k'\nvcpus=2\ncpus='0-3,^2'\ncpus_soft=['all,^node:1','nodes:0-1']\ncpu_weight=512\n\
            cap=150\npool='batch'",
        ),
        ("unfinished", "disk=[ 'a', [ 1, -2 ], "),
        ("added", "vif += [ '' ]"),
        ("lists_in_lists", "disk=[[[[[[[[[[[[[[[["),
    ];
    numbered
        .map(|(name, text)| (name, text.as_bytes().to_vec()))
        .into()
}
