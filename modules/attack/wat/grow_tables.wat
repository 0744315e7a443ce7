;; Grows tables instead of memories.
;;
;; Stopped by: the memory limit and the bound on tables.
(module
  (memory (export "memory") 1) (table $a 1 funcref) (table $b 1 externref)
  (func (export "_start") (local $grown i32)
    (loop $more
      (local.set $grown (i32.add (local.get $grown) (i32.const 1000)))
      (br_if $more (i32.ne (table.grow $a (ref.null func) (i32.const 1000)) (i32.const -1)))
      (br_if $more (i32.ne (table.grow $b (ref.null extern) (i32.const 1000)) (i32.const -1))))
    (if (i32.gt_u (i32.add (table.size $a) (table.size $b)) (i32.const 262144)) (then unreachable))))
