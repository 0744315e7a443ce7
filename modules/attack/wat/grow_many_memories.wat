;; Grows several memories, each for itself.
;;
;; Stopped by: the memory limit, which is for all together.
(module
  (memory (export "memory") 1) (memory $b 1) (memory $c 1) (memory $d 1)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
      (br_if $more (i32.ne (memory.grow $b (i32.const 1)) (i32.const -1)))
      (br_if $more (i32.ne (memory.grow $c (i32.const 1)) (i32.const -1)))
      (br_if $more (i32.ne (memory.grow $d (i32.const 1)) (i32.const -1))))
    (if (i32.gt_u (i32.add (i32.add (memory.size) (memory.size $b)) (i32.add (memory.size $c) (memory.size $d))) (i32.const 64))
      (then unreachable))))
