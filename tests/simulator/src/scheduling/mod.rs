//! The core's scheduler in virtual time: whole hosts of vCPUs that compute, sleep and wait for events, for a second or so
//! each, from a seed.
//!
//! Here it is not the interleavings that count but who runs when. The core's code takes no time; guests compute until
//! they sleep, or until they are interrupted; the clock jumps from one event to the next ([`timeline`]). What was run is
//! compared with what an ideal scheduler would have given ([`ideal`]), and the properties that are promised are checked
//! all along ([`check`]).

pub mod check;
pub mod ideal;
pub mod mix;
pub mod report;
pub mod scale;
pub mod timeline;

pub use check::{Outcome, play};
pub use mix::Mix;
