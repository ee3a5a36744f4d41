//! Layout test: see tests/.
