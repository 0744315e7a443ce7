//! Plays a guest that has broken out of wasmtime's sandbox: it makes system calls, and reads the memory of its
//! host's process. For tests alone, which prove with it that what stands behind the sandbox stands alone.
//!
//! Never in what is shipped: the feature is one of development dependencies (`tests/workspace.rs`).

use std::str::FromStr;

use syscalls::Sysno;
use wasmtime::{Caller, Extern, Linker, Memory};

use crate::sandbox::Sandbox;

/// The module whose functions these are.
pub(crate) const MODULE: &str = "mote_escape";

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "syscall",
        |mut caller: Caller<'_, Sandbox>, name: u32, length: u32, arguments: u32| {
            let memory = memory(&mut caller)?;
            let data = memory.data(&caller);
            let word = |at: usize| -> wasmtime::Result<i64> {
                let bytes = data.get(at..at + 8).ok_or_else(outside)?;
                Ok(i64::from_le_bytes(bytes.try_into()?))
            };
            let name = data.get(name as usize..(name + length) as usize).ok_or_else(outside)?;
            let number = Sysno::from_str(std::str::from_utf8(name)?)
                .map_err(|_| wasmtime::format_err!("no such system call"))?;
            let mut all = [0; 6];
            for (place, argument) in all.iter_mut().enumerate() {
                *argument = word(arguments as usize + place * 8)?;
            }
            let [a, b, c, d, e, f] = all;
            // SAFETY: none is claimed: this is what an escaped guest does, in a process that a test has
            // started to see what comes of it.
            let done = unsafe { libc::syscall(i64::from(number.id()), a, b, c, d, e, f) };
            wasmtime::error::Ok(match done {
                -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
                done => done,
            })
        },
    )?;
    linker.func_wrap(MODULE, "address", |mut caller: Caller<'_, Sandbox>, at: u32| {
        let memory = memory(&mut caller)?;
        wasmtime::error::Ok(memory.data_ptr(&caller) as i64 + i64::from(at))
    })?;
    Ok(())
}

fn memory(caller: &mut Caller<'_, Sandbox>) -> wasmtime::Result<Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::format_err!("the module exports no memory"))
}

fn outside() -> wasmtime::Error {
    wasmtime::format_err!("outside of the guest's memory")
}
