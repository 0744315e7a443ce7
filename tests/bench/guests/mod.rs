//! Guests that several benchmarks run.

#![allow(dead_code, reason = "each benchmark uses a part")]

/// Says hello, and ends.
pub const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Sleeps for an hour.
pub const SLEEP: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 120) (i32.const 1))
    (i64.store (i32.const 128) (i64.const 3600000000000))
    (drop (call $poll (i32.const 104) (i32.const 200) (i32.const 1) (i32.const 300)))))"#;
