//! Puts the storage quota in front of every function of WASI that makes a file grow, or makes a name; lists
//! directories without keeping them; and takes a sleeping guest off its thread.

pub(crate) mod listing;
mod listing_p1;
mod listing_p2;
mod listing_p3;
mod names_p1;
mod names_p2;
mod names_p3;
pub(crate) mod open_cursors;
mod p1;
mod p2;
mod p3;
mod sleep_p1;

use std::fs::File;
use std::io;
use std::sync::Arc;

use wasmtime::component;
use wasmtime_wasi::filesystem::{Descriptor, FsPerms};

use crate::quota::{NewName, Quota};
use crate::sandbox::Sandbox;

/// What a module of preview 1 has, with a quota or without.
pub(crate) fn link_p1(
    linker: &mut wasmtime::Linker<Sandbox>,
    module: &str,
    has_quota: bool,
) -> wasmtime::Result<()> {
    sleep_p1::link(linker, module)?;
    names_p1::link_open(linker, module)?;
    p1::link_renumber(linker, module)?;
    listing_p1::link(linker, module)?;
    if has_quota {
        p1::link(linker, module)?;
        names_p1::link(linker, module)?;
    }
    Ok(())
}

/// What a component of WASI 0.2 has, with a quota or without.
pub(crate) fn link_p2(
    linker: &mut component::Linker<Sandbox>,
    has_quota: bool,
) -> wasmtime::Result<()> {
    p2::link_streams(linker)?;
    names_p2::link_open(linker)?;
    listing_p2::link(linker)?;
    if has_quota {
        p2::link(linker)?;
        names_p2::link(linker)?;
    }
    Ok(())
}

/// What a component of WASI 0.3 has, with a quota or without.
pub(crate) fn link_p3(
    linker: &mut component::Linker<Sandbox>,
    has_quota: bool,
) -> wasmtime::Result<()> {
    names_p3::link_open(linker)?;
    listing_p3::link(linker)?;
    if has_quota {
        p3::link(linker)?;
        names_p3::link(linker)?;
    }
    Ok(())
}

/// Leave to make a name, and the directory that it is for; `None` where nothing can be made, as the
/// call itself then says.
type Leave = Option<(NewName, Arc<File>)>;

/// The directory behind a component's descriptor, if names may be made below it.
fn directory(descriptor: &Descriptor) -> Option<Arc<File>> {
    match descriptor {
        Descriptor::Dir(dir) if dir.perms == FsPerms::ReadWrite => Some(Arc::clone(&dir.dir)),
        Descriptor::Dir(_) | Descriptor::File(_) => None,
    }
}

/// Asks for leave to make a name below a directory.
fn leave(quota: Option<&Arc<Quota>>, dir: Option<Arc<File>>) -> io::Result<Leave> {
    let (Some(quota), Some(dir)) = (quota, dir) else { return Ok(None) };
    Ok(quota.name(&dir)?.map(|name| (name, dir)))
}

/// Notes how an attempt to make a name ended.
fn settle(leave: Leave, made: Made<'_>) {
    let Some((leave, dir)) = leave else { return };
    match made {
        Made::Nothing => leave.unused(),
        Made::Named(path) => leave.made(&dir, path),
        Made::File(file) => leave.opened(file),
    }
}

/// What an attempt to make a name brought about.
enum Made<'a> {
    Nothing,
    Named(&'a str),
    File(&'a File),
}
