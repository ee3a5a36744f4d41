//! Building blocks of Xen's PV device protocols, for guest kernels and for backends, without the standard library.
//!
//! What there is: [`ring`], both ends of the shared ring that block, network and other devices use, and the byte rings of
//! the console and the store. What there is not yet: the frontends themselves (xenbus, store client, console, block, net) and
//! the platform trait that they will stand on.
#![no_std]
#![deny(unsafe_code)]

pub mod ring;
