//! AMD-V with nested paging.

/// What virtualisation keeps per processor.
#[derive(Default)]
pub struct ProcessorState;
