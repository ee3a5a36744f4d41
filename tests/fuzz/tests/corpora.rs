//! Every input that is kept for a target is tried once, on the stable toolchain, without libFuzzer: what was found stays fixed.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, target};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept inputs of a target, by name.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus(target)).expect("a corpus of each target");
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let file = file.expect("a readable folder");
            let bytes = fs::read(file.path()).expect("a readable file");
            (file.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

/// Tries all that is kept for a target, and each of it cut short.
fn holds(name: &str) {
    let target = target(name).expect("a target of this name");
    let inputs = kept(name);
    assert!(
        inputs.len() >= (target.seeds)().len(),
        "seeds are missing: cargo run -p fuzz --example write_seeds"
    );
    for (name, bytes) in inputs {
        // Which one it was stands above a panic's message.
        eprintln!("{}/{name}", target.name);
        (target.run)(&bytes);
        for length in [0, bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            (target.run)(&bytes[..length]);
        }
    }
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                holds(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($target)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(tried));
        }
    };
}

corpora! {
    boot_information
    console_ring
    device_ring
    front_block
    front_net
    front_store
    guest_configuration
    hypercalls
    instruction_decoder
    kernel_image
    simulator
    store_messages
    store_ring
}

#[test]
fn kept_seeds_are_those_that_are_made() {
    for target in &TARGETS {
        for (name, bytes) in (target.seeds)() {
            let file = corpus(target.name).join(name);
            assert!(
                fs::read(&file).is_ok_and(|kept| kept == bytes),
                "{}: cargo run -p fuzz --example write_seeds",
                file.display()
            );
        }
    }
}

#[test]
fn corpora_are_small() {
    for target in &TARGETS {
        let size: usize = kept(target.name).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size <= 64 << 10, "{}: {size} bytes", target.name);
    }
}
