//! Fuzz targets: each turns bytes into something that an attacker could do, and checks what must hold whatever it is.
//!
//! A target is a plain function. libFuzzer calls it with bytes that it has found to reach new code (`fuzz_targets/`,
//! `cargo xtask fuzz`); the test of this package calls it with the kept corpus, in each run of the unit tests. A target
//! panics when something does not hold that must; it does the same for the same bytes, each time.
//!
//! To add one: a module here with the function and its seeds, a line
//! in [`TARGETS`], three lines in `fuzz_targets/`, a `[[bin]]`, and `cargo run -p fuzz --example write_seeds`.

pub mod boot_information;
pub mod console_ring;
pub mod device_ring;
mod front;
pub mod front_block;
pub mod front_net;
pub mod front_store;
pub mod guest_configuration;
pub mod hypercalls;
pub mod input;
pub mod instruction_decoder;
pub mod kernel_image;
pub mod simulator;
mod store;
pub mod store_messages;
pub mod store_ring;

/// Something that can be fuzzed.
pub struct Target {
    /// Its name: of the binary, of the corpus, of the module.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    /// Tries it.
    pub run: fn(&[u8]),
    /// Inputs to begin with, by name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    Target {
        name: "boot_information",
        about: "what a boot loader leaves in memory",
        run: boot_information::run,
        seeds: boot_information::seeds,
    },
    Target {
        name: "console_ring",
        about: "a guest's console page, served by the console daemon",
        run: console_ring::run,
        seeds: console_ring::seeds,
    },
    Target {
        name: "device_ring",
        about: "block and network rings, with either end hostile",
        run: device_ring::run,
        seeds: device_ring::seeds,
    },
    Target {
        name: "front_block",
        about: "a disk's frontend, with a hostile backend",
        run: front_block::run,
        seeds: front_block::seeds,
    },
    Target {
        name: "front_net",
        about: "an interface's frontend, with a hostile backend",
        run: front_net::run,
        seeds: front_net::seeds,
    },
    Target {
        name: "front_store",
        about: "the store's client, with a daemon that lies",
        run: front_store::run,
        seeds: front_store::seeds,
    },
    Target {
        name: "guest_configuration",
        about: "xl.cfg files",
        run: guest_configuration::run,
        seeds: guest_configuration::seeds,
    },
    Target {
        name: "hypercalls",
        about: "a guest's hypercalls, arguments and lists",
        run: hypercalls::run,
        seeds: hypercalls::seeds,
    },
    Target {
        name: "instruction_decoder",
        about: "instructions that touch device pages and holes",
        run: instruction_decoder::run,
        seeds: instruction_decoder::seeds,
    },
    Target {
        name: "kernel_image",
        about: "kernel files: ELF, bzImage and what is packed in them",
        run: kernel_image::run,
        seeds: kernel_image::seeds,
    },
    Target {
        name: "simulator",
        about: "whole hosts: attackers on simulated processors, step by step",
        run: simulator::run,
        seeds: simulator::seeds,
    },
    Target {
        name: "store_messages",
        about: "several guests' and a tool's messages to the store",
        run: store_messages::run,
        seeds: store_messages::seeds,
    },
    Target {
        name: "store_ring",
        about: "a guest's store page, bytes and indices",
        run: store_ring::run,
        seeds: store_ring::seeds,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    const { &TARGETS }.iter().find(|target| target.name == name)
}
