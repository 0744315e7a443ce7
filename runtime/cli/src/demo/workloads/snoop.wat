;; Tries to open /etc/passwd below every directory that it may have been given.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "../../../etc/passwd")
  (data (i32.const 128) "no directory leads to /etc/passwd\n")
  (data (i32.const 192) "got /etc/passwd!\n")

  (func $say (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16))))

  (func (export "_start")
    (local $fd i32)
    (local.set $fd (i32.const 3))
    (loop $next
      (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (i32.const 64) (i32.const 19)
            (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 32)))
        (then (call $say (i32.const 192) (i32.const 17)) (call $proc_exit (i32.const 0))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $fd) (i32.const 64))))
    (call $say (i32.const 128) (i32.const 34))
    (call $proc_exit (i32.const 1))))
