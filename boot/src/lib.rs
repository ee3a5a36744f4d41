//! From a boot loader to BootInfo.
#![no_std]
