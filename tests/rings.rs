//! No file of a crate imports one that, directly or through others, imports it: whoever reads a file then needs to
//! know only what is below it.
//!
//! Imports are read off the text: every path that begins with `crate`, `super` or `self` outside of comments and unit
//! tests. A path leads to the innermost file that its parts name. The root of a crate, which lists its files and
//! exports from them, is above all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A file of a crate, by the parts of its module's path.
type Module = Vec<String>;

/// The text without comments and without its unit tests, which may look at anything.
fn imported_by(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: Vec<&str> = lines.collect();
    let tests = code.windows(2).position(|two| {
        two[0].trim() == "#[cfg(test)]" && two[1].contains("mod ") && two[1].ends_with('{')
    });
    code[..tests.unwrap_or(code.len())].join("\n")
}

/// The paths that begin with this word, with the alternatives in braces each for itself.
fn paths(code: &str, word: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{word}::")) {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_' && letter != ':') {
            alternatives(&code[at..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path, and returns what follows it.
fn alternatives<'a>(
    mut code: &'a str,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> &'a str {
    let depth = before.len();
    loop {
        let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
        before.push(code[..end].to_owned());
        code = &code[end..];
        let Some(rest) = code.strip_prefix("::") else { break };
        if let Some(mut rest) = rest.strip_prefix('{') {
            loop {
                rest = alternatives(rest.trim_start(), before, found).trim_start();
                match rest.strip_prefix(',') {
                    Some(more) if !more.trim_start().starts_with('}') => rest = more,
                    _ => break,
                }
            }
            code = rest.trim_start_matches([',', ' ', '\n']).trim_start_matches('}');
            before.truncate(depth);
            return code;
        }
        code = rest;
    }
    found.push(before.clone());
    before.truncate(depth);
    code
}

/// The file that a path leads to from a file, which the path names in full or in part.
fn target(from: &[String], path: &[String], files: &BTreeMap<Module, String>) -> Module {
    let mut at: Module = match path[0].as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        _ => from[..from.len().saturating_sub(1)].to_vec(),
    };
    for part in &path[1..] {
        if part == "super" {
            at.pop();
            continue;
        }
        let mut next = at.clone();
        next.push(part.clone());
        if !files.contains_key(&next) {
            break;
        }
        at = next;
    }
    at
}

/// The files that each file of a crate imports.
fn imports(files: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let of = |(module, text): (&Module, &String)| {
        let code = imported_by(text);
        let paths = ["crate", "super", "self"].iter().flat_map(|word| paths(&code, word));
        let targets = paths.map(|path| target(module, &path, files));
        let targets = targets.filter(|other| other != module && !other.is_empty()).collect();
        (module.clone(), targets)
    };
    files.iter().filter(|(module, _)| !module.is_empty()).map(of).collect()
}

/// A file that reaches itself, if there is one, with those that it reaches.
fn ring(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    imports.keys().find_map(|start| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            next.extend(imports[module].iter().filter(|other| reached.insert((*other).clone())));
        }
        let reaches_back = |module: &&Module| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![*module]);
            while let Some(module) = next.pop() {
                next.extend(imports[module].iter().filter(|other| seen.insert(*other)));
            }
            seen.contains(start)
        };
        let around = reached.contains(start).then(|| reached.iter().filter(reaches_back));
        around.map(|around| around.map(|module| module.join("::")).collect())
    })
}

fn files(folder: &Path, above: &[String], found: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("a name"));
        if path.is_dir() {
            files(&path, &[above, &[name]].concat(), found);
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let module = match stem {
                "lib" | "main" | "mod" => above.to_vec(),
                stem => [above, &[stem.to_owned()]].concat(),
            };
            found.insert(module, std::fs::read_to_string(&path).expect("read"));
        }
    }
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = ["spec", "image", "registry", "engine", "lifecycle", "daemon", "cli"];
    let folders = crates.iter().map(|name| format!("runtime/{name}/src"));
    for folder in folders.chain(["shim/src".to_owned()]) {
        let mut found = BTreeMap::new();
        files(&workspace.join(&folder), &[], &mut found);
        assert_eq!(ring(&imports(&found)), None, "{folder}");
    }
}

#[test]
fn a_ring_is_found_however_it_is_written() {
    let file = |path: &str, text: &str| {
        let module = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned);
        (module.collect::<Module>(), text.to_owned())
    };
    let ring_of = |texts: &[(&str, &str)]| {
        let files = texts.iter().map(|(path, text)| file(path, text)).collect();
        ring(&imports(&files))
    };
    let (root, leaf) = (("", "mod a; mod b;"), ("c", ""));
    for (a, b) in [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use super::{b, c::C};", "fn f() { crate::a::g() }"),
        ("use crate::{c, b::{B, D}};", "use crate::{a::A};"),
    ] {
        let found = ring_of(&[root, leaf, ("a", a), ("b", b)]);
        assert_eq!(found, Some(vec!["a".into(), "b".into()]), "{a} {b}");
    }
    let inner = [root, ("a", "use self::b::B;"), ("a::b", "use super::A;")];
    assert_eq!(ring_of(&inner), Some(vec!["a".into(), "a::b".into()]));
    for b in [
        "use crate::c::C; // use crate::a::A;",
        "use crate::C;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
        "use mycrate::a::A;",
    ] {
        assert_eq!(ring_of(&[root, leaf, ("a", "use crate::b::B;"), ("b", b)]), None, "{b}");
    }
}
