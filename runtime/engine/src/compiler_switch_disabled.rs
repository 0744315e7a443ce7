//! Stands for the switch of the compiler in a program that has none.

/// An engine has no compiler here in any case.
pub(crate) fn leave_out(_: &mut wasmtime::Config) {}
