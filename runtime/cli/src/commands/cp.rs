//! `mote cp`

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use hyper::Method;
use mote_image::bounds::{self, Bounded, Budget, MAX_DEPTH, OverBudget};

use crate::app::App;
use crate::client::{Body, Client, More, encoded};
use crate::error::CliError;
use crate::find;
use crate::output;

/// Copy files and folders into a container, or out of one
///
/// One of the two is CONTAINER:PATH; the other may be `-`, for an archive (tar) at standard input or
/// output. The path in the container is in a volume or scratch space of the container, or
/// among the image's files, which only a running container has a copy of to write to.
#[derive(Args, Debug)]
pub(crate) struct CpArgs {
    /// What to copy: PATH or CONTAINER:PATH
    source: String,
    /// Where to: PATH or CONTAINER:PATH; an existing folder gets it inside
    destination: String,
}

/// A place on either side.
enum Side<'a> {
    Here(&'a Path),
    There(&'a str, &'a str),
}

/// A name before a colon is a container's, unless it is a path.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((container, path))
            if !container.is_empty() && !container.contains('/') && !text.starts_with('.') =>
        {
            Side::There(container, path)
        }
        _ => Side::Here(Path::new(text)),
    }
}

impl CpArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        match (side(&self.source), side(&self.destination)) {
            (Side::Here(from), Side::There(container, to)) => {
                into(&find::daemon(app, container)?, from, container, to)
            }
            (Side::There(container, from), Side::Here(to)) => {
                out_of(&find::daemon(app, container)?, container, from, to)
            }
            (Side::There(..), Side::There(..)) => {
                Err(CliError::new("files are not copied from container to container")
                    .hint("copy them out, and in again; `-` on both sides pipes them"))
            }
            (Side::Here(_), Side::Here(_)) => {
                Err(CliError::new("one of the two has to be CONTAINER:PATH, such as web:/data"))
            }
        }
    }
}

fn archive_path(container: &str, path: &str) -> String {
    // As docker has it, a path in a container begins at its root.
    let path = encoded(&format!("/{}", path.trim_start_matches('/')));
    format!("/containers/{}/archive?path={path}", encoded(container))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CliError + '_ {
    move |error| CliError::new(format!("cannot copy {}: {error}", path.display()))
}

fn into(client: &Client, from: &Path, container: &str, to: &str) -> Result<(), CliError> {
    if from == Path::new("-") {
        let piped = |to: &mut dyn Write| io::copy(&mut io::stdin().lock(), to).map(drop);
        return put(client, container, to, Body::Archive(Box::new(piped)));
    }
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| ".".to_owned());
    // Into a folder that is there; else under the name that is wanted.
    let is_folder = to.ends_with('/') || is_folder(client, container, to);
    let (folder, name) = match (is_folder, Path::new(to).parent(), Path::new(to).file_name()) {
        (false, Some(parent), Some(own)) => {
            (parent.display().to_string(), own.to_string_lossy().into_owned())
        }
        _ => (to.to_owned(), name),
    };
    let is_folder = std::fs::metadata(from).map_err(failed(from))?.is_dir();
    let source = from.to_owned();
    let packed = move |to: &mut dyn Write| {
        let mut archive = tar::Builder::new(to);
        archive.follow_symlinks(false);
        match is_folder {
            true => archive.append_dir_all(&name, &source)?,
            false => archive.append_path_with_name(&source, &name)?,
        }
        archive.finish()
    };
    put(client, container, &folder, Body::Archive(Box::new(packed)))
}

fn put(client: &Client, container: &str, folder: &str, archive: Body) -> Result<(), CliError> {
    client.call(Method::PUT, &archive_path(container, folder), archive).map(drop)
}

/// Whether a path in a container is a folder: an archive of it begins with one.
fn is_folder(client: &Client, container: &str, path: &str) -> bool {
    let mut kind = None;
    let looked = client.stream(&archive_path(container, path), |bytes| {
        // The type of a header's entry (tar(5)).
        kind = bytes.get(156).copied();
        Ok(More::Enough)
    });
    looked.is_ok() && kind == Some(b'5')
}

fn out_of(client: &Client, container: &str, from: &str, to: &Path) -> Result<(), CliError> {
    if to == Path::new("-") {
        if io::stdout().is_terminal() {
            let message = "an archive is not written to a terminal";
            return Err(CliError::new(message).hint("pipe it on, or write it to a file with `>`"));
        }
        return client.stream(&archive_path(container, from), |bytes| {
            output::raw(bytes);
            Ok(More::Wanted)
        });
    }
    let mut file = tempfile::tempfile().map_err(failed(to))?;
    client.stream(&archive_path(container, from), |bytes| {
        file.write_all(bytes).map_err(failed(to)).map(|()| More::Wanted)
    })?;
    io::Seek::rewind(&mut file).map_err(failed(to))?;
    let target = Target::of(to);
    unpack(file, &target).map_err(failed(to))
}

/// Where an archive is unpacked.
struct Target {
    folder: PathBuf,
    /// The name that its first part gets; its own inside a folder that is there.
    name: Option<PathBuf>,
}

impl Target {
    fn of(to: &Path) -> Target {
        match (to.is_dir(), to.parent(), to.file_name()) {
            (false, Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Target { folder: parent.to_owned(), name: Some(name.into()) }
            }
            _ => Target { folder: to.to_owned(), name: None },
        }
    }
}

/// Unpacks what a container, which may be hostile, had: nothing is written outside of the target.
fn unpack(file: File, target: &Target) -> io::Result<()> {
    let budget = Budget::for_stream(&target.folder);
    let mut archive = tar::Archive::new(Bounded::new(file, &budget));
    let mut entries = archive.entries()?;
    while let Some(entry) = budget.next_entry(&mut entries) {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.components().count() > MAX_DEPTH {
            return Err(OverBudget::Depth.into());
        }
        let mut parts = path.components();
        let first = parts.next();
        let safe = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !safe && path != Path::new(".") {
            return Err(io::Error::other(format!("{} leads elsewhere", path.display())));
        }
        let path = match (&target.name, first) {
            (Some(name), Some(_)) if parts.as_path().as_os_str().is_empty() => name.clone(),
            (Some(name), Some(_)) => name.join(parts.as_path()),
            _ => path,
        };
        let kind = entry.header().entry_type();
        let place = target.folder.join(&path);
        refuse_links(&target.folder, &path)?;
        if kind.is_dir() {
            std::fs::create_dir_all(&place)?;
        } else if kind.is_file() {
            let mut out = File::create(&place)?;
            io::copy(&mut entry.by_ref(), &mut out)?;
            // Neither setuid nor the like comes out of a container.
            let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
            out.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        } else if kind.is_symlink() {
            let to = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            std::os::unix::fs::symlink(to, &place)?;
        }
        bounds::drain(&mut entry)?;
    }
    Ok(())
}

/// A link that came before must not lead what comes after it elsewhere.
fn refuse_links(folder: &Path, path: &Path) -> io::Result<()> {
    let mut place = folder.to_owned();
    for part in path.components() {
        place.push(part);
        if std::fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
            return Err(io::Error::other(format!("{} is a link", place.display())));
        }
    }
    Ok(())
}
