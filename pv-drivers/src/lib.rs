//! PV frontends.
#![no_std]
