//! Leaves the compiler out of an engine that does not need it.

/// Lets an engine be made without a compiler: it starts faster.
pub(crate) fn leave_out(config: &mut wasmtime::Config) {
    config.enable_compiler(false);
}
