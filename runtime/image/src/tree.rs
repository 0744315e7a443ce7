//! Finds and opens a program in a tree of files, which may be hostile: its links lead nowhere outside.

use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mote_spec::Algorithm;

use crate::code::{Code, check_magic};
use crate::error::OpenError;
use crate::hash;

/// What is known of the program that is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// What it is called in messages: its image's name, say.
    pub name: &'a str,
    /// How the image or somebody else names it.
    pub program: Option<&'a str>,
    pub env: &'a [String],
    pub cwd: Option<&'a str>,
}

/// Whether a program's digest is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memo {
    /// In a file beside the tree, so that a second start reads nothing of the program.
    BesideTree,
    Nowhere,
}

impl Search<'_> {
    /// Finds the program: where it is named, as a path, below the working folder, or on the `PATH`;
    /// without a name, the only `.wasm` file. The path is below the tree's root.
    ///
    /// # Errors
    /// Fails if there is no such file, or if there are several.
    pub fn find(&self, tree: &Path) -> Result<PathBuf, OpenError> {
        let dir = Dir::open_ambient_dir(tree, ambient_authority())
            .map_err(|source| OpenError::Read { path: tree.to_owned(), source })?;
        let name = || self.name.to_owned();
        let Some(wanted) = self.program else {
            let mut found = Vec::new();
            wasm_files(&dir, Path::new(""), &mut found, 0);
            return match found.as_slice() {
                [only] => Ok(only.clone()),
                several => Err(OpenError::Undecided { name: name(), found: several.len() }),
            };
        };
        let path = self.env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
        let folders = [self.cwd.unwrap_or("/"), "/"].into_iter().chain(path.split(':'));
        let found = folders
            .map(|folder| relative(&Path::new(folder).join(wanted)))
            .find(|path| dir.is_file(path));
        found.ok_or_else(|| OpenError::NoProgram { name: name(), program: wanted.to_owned() })
    }

    /// Finds the program in a tree that somebody else looks after, and opens it.
    ///
    /// # Errors
    /// Fails also if what is found is not Wasm.
    pub fn open(&self, tree: &Path) -> Result<Code, OpenError> {
        code(tree, &self.find(tree)?, self.name, Memo::Nowhere)
    }
}

/// The code of a file in an unpacked tree.
pub(crate) fn code(tree: &Path, program: &Path, name: &str, memo: Memo) -> Result<Code, OpenError> {
    let path = tree.join(program);
    let failed = |source| OpenError::Read { path: path.clone(), source };
    let dir = Dir::open_ambient_dir(tree, ambient_authority()).map_err(failed)?;
    let file = dir.open(program).map_err(failed)?.into_std();
    check_magic(file.try_clone().map_err(failed)?, &path, name)?;
    let key = hash::sha256(program.as_os_str().as_encoded_bytes());
    let place = PathBuf::from(format!("{}.{}", tree.display(), key.short()));
    let remembered = match memo {
        Memo::BesideTree => std::fs::read_to_string(&place).ok(),
        Memo::Nowhere => None,
    };
    let digest = match remembered.and_then(|text| text.parse().ok()) {
        Some(known) => known,
        None => {
            let file = dir.open(program).map_err(failed)?;
            let (digest, _) = hash::hash_reader(Algorithm::Sha256, file).map_err(failed)?;
            if memo == Memo::BesideTree {
                // Only a shortcut: when it cannot be kept, the next start hashes again.
                let _ = std::fs::write(&place, digest.to_string());
            }
            digest
        }
    };
    Ok(Code::of_file(digest, path))
}

/// The path below the tree's root; a `..` stays for cap-std to refuse.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .collect()
}

fn wasm_files(dir: &Dir, below: &Path, found: &mut Vec<PathBuf>, depth: u32) {
    let folder = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let Ok(entries) = dir.read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = below.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < 32 => wasm_files(dir, &path, found, depth + 1),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "wasm") => {
                found.push(path);
            }
            _ => {}
        }
    }
}
