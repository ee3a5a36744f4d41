//! Typed access to the hypervisor from dom0.
