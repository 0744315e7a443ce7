//! Puts the storage quota in front of every function of WASI that makes a file grow, or makes a name.

mod names_p1;
mod names_p2;
mod names_p3;
mod p1;
mod p2;
mod p3;

use std::fs::File;
use std::io;
use std::sync::Arc;

use wasmtime::component;
use wasmtime_wasi::filesystem::{Descriptor, FsPerms};

use crate::quota::{NewName, Quota};
use crate::sandbox::Sandbox;

pub(crate) fn link_p1(linker: &mut wasmtime::Linker<Sandbox>) -> wasmtime::Result<()> {
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        p1::link(linker, module)?;
        names_p1::link(linker, module)?;
    }
    Ok(())
}

pub(crate) fn link_p2(linker: &mut component::Linker<Sandbox>) -> wasmtime::Result<()> {
    p2::link(linker)?;
    names_p2::link(linker)
}

pub(crate) fn link_p3(linker: &mut component::Linker<Sandbox>) -> wasmtime::Result<()> {
    p3::link(linker)?;
    names_p3::link(linker)
}

/// Leave to make a name, and the directory that it is for; `None` where nothing can be made, as the
/// call itself then says.
type Leave = Option<(NewName, Arc<File>)>;

/// Asks for leave to make a name below a component's directory.
fn leave(quota: Option<&Arc<Quota>>, dir: &Descriptor) -> io::Result<Leave> {
    match (quota, dir) {
        (Some(quota), Descriptor::Dir(dir)) if dir.perms == FsPerms::ReadWrite => {
            Ok(Some((quota.name(&dir.dir)?, Arc::clone(&dir.dir))))
        }
        _ => Ok(None),
    }
}

fn made(leave: Leave, path: &str) {
    if let Some((leave, dir)) = leave {
        leave.made(&dir, path);
    }
}
