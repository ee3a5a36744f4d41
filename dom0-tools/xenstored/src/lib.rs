//! The store: a small tree of names and values through which domains, device drivers and tools find each other.
//!
//! From the bottom up: [`wire`] reads and writes messages; [`path`], [`permission`] and [`quota`] say what is
//! well-formed and allowed; [`tree`] holds the nodes; [`transaction`] and [`view`] let a caller look and change;
//! [`watch`] remembers who wants to hear of it; `events` tells them; [`connection`] is one client's state; [`store`] ties them together
//! and answers every request. All of that is ordinary computation, without a file or a hypervisor in sight. Around
//! it, [`hypervisor`] names what is asked of the hypervisor,
//! [`xen`] asks it, and [`daemon`] is the loop that waits and serves.

pub mod connection;
mod control_command;
pub mod daemon;
mod domains;
mod events;
pub mod hypervisor;
pub mod path;
pub mod permission;
pub mod quota;
mod request;
pub mod store;
pub mod transaction;
pub mod tree;
pub mod view;
pub mod watch;
pub mod wire;
pub mod xen;
