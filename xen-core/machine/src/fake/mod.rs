//! Host fakes: the same memory as on the metal, in an arena; processors and guests are scripted.

/// A point at which another simulated processor may run.
pub fn interleave() {}
