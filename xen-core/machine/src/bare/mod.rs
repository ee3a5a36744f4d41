//! The metal.

pub mod interrupts;
pub mod processor;
pub mod svm;
