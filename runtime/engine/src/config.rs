//! Makes wasmtime's configuration of a profile: memory reservations, allocation, stacks, and what code looks at.

use mote_spec::Bytes;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::compiler_switch::leave_out;
use crate::error::EngineError;
use crate::profile::{Checks, FULL_GUARD, Profile};

/// The engine of a profile. Without a compiler it starts faster and can only run what is compiled.
pub(crate) fn engine(
    profile: Profile,
    checks: Checks,
    stack: Bytes,
    compiler: Compiler,
) -> Result<wasmtime::Engine, EngineError> {
    let mut config = config(profile, checks, stack);
    if compiler == Compiler::Off {
        leave_out(&mut config);
    }
    wasmtime::Engine::new(&config).map_err(|source| EngineError::Setup { profile, source })
}

/// Compiler of an engine: left out, or part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    Off,
    #[cfg(feature = "compiler")]
    On,
}

/// The one place that makes an engine's configuration.
fn config(profile: Profile, checks: Checks, stack: Bytes) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(checks.count_fuel())
        .epoch_interruption(checks.look_at_ticks())
        .wasm_component_model_async(true)
        .wasm_custom_page_sizes(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_guard_size(FULL_GUARD);
    let most_stack = match profile {
        Profile::Micro => 128 << 10,
        Profile::Gateway { .. } | Profile::Server => 1 << 20,
    };
    let stack = usize::try_from(stack.get()).unwrap_or(most_stack).clamp(64 << 10, most_stack);
    // Host calls run on the same stack as the guest, above what the guest may use.
    config.max_wasm_stack(stack).async_stack_size(stack + (512 << 10));
    match profile {
        Profile::Micro => {
            // Wasmtime's own figures for 32-bit machines.
            config
                .memory_reservation(10 << 20)
                .memory_guard_size(64 << 10)
                .memory_reservation_for_growth(1 << 20)
                .guard_before_linear_memory(false)
                .memory_may_move(true);
        }
        Profile::Gateway { slots } => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
        }
        Profile::Server => {}
    }
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots * 4)
        .total_component_instances(slots)
        .total_memories(slots)
        .total_tables(slots * 4)
        .total_stacks(slots)
        .total_gc_heaps(slots)
        .max_core_instances_per_component(128)
        .max_memories_per_component(4)
        .max_tables_per_component(32)
        .max_unused_warm_slots(slots.min(16));
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_makes_an_engine_that_runs_code_compiled_for_it() {
        let wasm = wat::parse_str("(module (memory 1) (func (export \"_start\")))").unwrap();
        for profile in [Profile::Micro, Profile::Gateway { slots: 2 }, Profile::Server] {
            for checks in [Checks::Nothing, Checks::Ticks, Checks::TicksAndFuel] {
                let stack = Bytes::new(512 << 10);
                let compiler = engine(profile, checks, stack, Compiler::On).unwrap();
                let code = compiler.precompile_module(&wasm).unwrap();
                let runner = engine(profile, checks, stack, Compiler::Off).unwrap();
                // SAFETY: the bytes are what this process just compiled.
                let module = unsafe { wasmtime::Module::deserialize(&runner, &code) };
                assert!(module.is_ok(), "{profile} {checks:?}");
            }
        }
    }
}
