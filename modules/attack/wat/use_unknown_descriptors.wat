;; Uses every descriptor that it might have.
;;
;; Stopped by: the sandbox.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $fd i32)
    (local.set $fd (i32.const 4))
    (loop $more
      (if (i32.eqz (call $fd_write (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 8))) (then unreachable))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $fd) (i32.const 100000))))))
