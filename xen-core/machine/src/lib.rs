//! Mechanism.
#![no_std]
