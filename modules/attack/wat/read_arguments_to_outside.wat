;; Has its host write beyond the end of its memory.
;;
;; Stopped by: the sandbox.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eqz (call $args_sizes_get (i32.const 0xfffffffc) (i32.const 65534))) (then unreachable))))
