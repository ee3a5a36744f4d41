//! A whole host in one process: the kernel on simulated processors, and domains that attack it.
//!
//! What the attackers do comes from here: [`attacker`] chooses, from a seed, the next [`deed`] of a vCPU; [`request`] has a
//! generator for each family of hypercalls; what a domain has learnt from earlier answers is its [`knowledge`], and
//! domains tell each other of what they offer on a [`noticeboard`], so that operations which take two succeed often.
//!
//! A [`scenario`] is a seed and the steps that follow from it; [`host`] is the machine, the kernel and the domains on which
//! it is played; [`run`] plays it, and makes one that fails short; [`worker`] has many of them played side by side.
//!
//! Races that are known beforehand are looked into one by one, under all interleavings with few preemptions: [`explore`].
#![forbid(unsafe_code)]

pub mod attacker;
pub mod deed;
pub mod exhaust;
pub mod exits;
pub mod explore;
pub mod host;
pub mod knowledge;
pub mod list;
pub mod model;
pub mod noticeboard;
pub mod numbers;
pub mod request;
pub mod run;
pub mod scenario;
pub mod scheduling;
pub mod stores;
pub mod worker;
