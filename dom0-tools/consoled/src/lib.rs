//! The console daemon: every guest's console becomes a log file and a terminal.
//!
//! [`log`] is the file, bounded; [`terminal`] the pseudo-terminal, with the newest output kept for whoever attaches;
//! [`ring`] our ends of the guest's console page; [`guest`] one guest with all three; [`daemon`] finds the guests in
//! the store, waits and serves. A guest never waits for a reader, and no guest's misbehaviour reaches another's
//! console.

pub mod daemon;
pub mod guest;
pub mod log;
pub mod ring;
pub mod terminal;
