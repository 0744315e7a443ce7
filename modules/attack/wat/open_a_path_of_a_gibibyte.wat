;; Opens a path that is as long as its memory.
;;
;; Stopped by: the bound on what a call brings.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1024)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 97) (i32.const 67000000))
    (if (i32.eqz (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 67000000) (i32.const 1) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 67100000)))
      (then unreachable))))
