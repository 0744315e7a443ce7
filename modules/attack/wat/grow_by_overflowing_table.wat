;; Grows its memory, and has a table overflow, so that what it grew by is forgotten.
;;
;; Stopped by: the memory limit.
(module
  (memory (export "memory") 1) (table $t i64 1 funcref)
  (func (export "_start") (local $tries i32)
    (loop $more
      (drop (memory.grow (i32.const 16)))
      (drop (table.grow $t (ref.null func) (i64.const -1)))
      (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $tries) (i32.const 100))))
    (if (i32.gt_u (memory.size) (i32.const 64)) (then unreachable))))
