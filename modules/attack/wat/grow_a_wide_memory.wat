;; Grows a memory of 64-bit addresses beyond all that a machine has.
;;
;; Stopped by: the memory limit.
(module
  (memory (export "memory") i64 1)
  (func (export "_start")
    (if (i64.ne (memory.grow (i64.const 0xffffffffff)) (i64.const -1)) (then unreachable))
    (if (i64.ne (memory.grow (i64.const -1)) (i64.const -1)) (then unreachable))))
