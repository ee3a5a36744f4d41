//! The management command of the Xenolith hypervisor.

mod arguments;
mod change;
mod command;
mod console;
mod create;
mod device;
mod domain;
mod machine;
mod monitor;
mod network;
mod output;
mod placement;
mod pool;
mod processors;
mod reap;
mod record;
mod store_tree;
mod teardown;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;
use xenolith::{config, failure, uuid};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match command::run(arguments.command, arguments.json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report(&failure, arguments.json);
            ExitCode::FAILURE
        }
    }
}
