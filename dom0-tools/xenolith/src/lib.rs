//! What of the management command is computation on text, without a hypervisor: also for tests that feed it anything.

pub mod config;
pub mod cpu_list;
pub mod failure;
pub mod uuid;
