//! The bootable image: to come.
fn main() {}
