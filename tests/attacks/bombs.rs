//! Programs that are small and cost much to read or compile. The compiler is a process that can die: its memory
//! and its time are bounded, and whoever started it goes on.

use std::time::{Duration, Instant};

use super::World;
use crate::harness::run;

/// How long one may keep anybody; each is an error, or runs, well before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program in bytes or text, and checks that it ends as a program does that is good, or is none.
fn goes_off(name: &str, program: &[u8]) {
    let world = World::new();
    let file = world.host.file(name, program);
    let began = Instant::now();
    let out = run(&mut world.host.command(["run", "--timeout", "5s", &file]));
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    assert!(
        matches!(out.code, 0 | 126 | 134),
        "{}: {}",
        out.code,
        out.stderr.chars().take(300).collect::<String>()
    );
    assert!(out.stderr.len() < 20_000, "{} bytes were said", out.stderr.len());
    let compiled = world.host.left("root/compiled");
    // Only drafts and locks have hidden names.
    let draft = compiled.iter().find(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with('.') && !name.ends_with(".lock")
    });
    assert_eq!(draft, None, "{compiled:?}");
}

fn module(body: &str) -> Vec<u8> {
    let text = format!(r#"(module (memory (export "memory") 1) {body} (func (export "_start")))"#);
    wat::parse_str(text).expect("valid text")
}

#[test]
fn many_locals() {
    let function = format!("(func {})", "(local i64 i64 i64 i64 i64)".repeat(9_000));
    goes_off("locals.wasm", &module(&function.repeat(20)));
}

#[test]
fn many_functions() {
    goes_off(
        "functions.wasm",
        &module(&"(func (param i32) (result i32) (local.get 0))".repeat(60_000)),
    );
}

#[test]
fn one_long_function() {
    let body = "(local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 3)) (i64.const 1)))"
        .repeat(60_000);
    goes_off("long.wasm", &module(&format!("(func (param i64) {body})")));
}

#[test]
fn a_table_of_branches() {
    let table = format!("(br_table {} (local.get 0))", "0 ".repeat(100_000));
    goes_off("branches.wasm", &module(&format!("(func (param i32) (block {table}))").repeat(10)));
}

#[test]
fn deep_blocks() {
    let (open, close) = ("block ".repeat(30_000), "end ".repeat(30_000));
    goes_off("blocks.wasm", &module(&format!("(func {open} {close})")));
}

#[test]
fn many_types_and_globals() {
    let types: String = (0..20_000)
        .map(|number| format!("(type (func (param {})))", "i32 ".repeat(number % 90)))
        .collect();
    let globals = "(global (mut i64) (i64.const 7))".repeat(100_000);
    goes_off("types.wasm", &module(&format!("{types} {globals}")));
}

#[test]
fn a_length_that_lies() {
    // A section of types that says it has four billion of them (WebAssembly core specification, 5.5.4).
    let bytes =
        [b"\0asm\x01\0\0\0".as_slice(), &[1, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x60]].concat();
    goes_off("lies.wasm", &bytes);
}

#[test]
fn text_that_nests() {
    let text = format!("(module {} {})", "(func (block ".repeat(50_000), "))".repeat(50_000));
    goes_off("nested.wat", text.as_bytes());
}

#[test]
fn names_of_a_mebibyte() {
    let name = "n".repeat(1 << 20);
    let text = format!(
        r#"(module (import "{name}" "{name}" (func)) (memory (export "memory") 1) (func (export "_start")))"#
    );
    goes_off("names.wasm", &wat::parse_str(text).expect("valid text"));
}
