;; Grows its memory until it is refused, and ends well if that was in time.
;;
;; Stopped by: the memory limit.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (if (i32.gt_u (memory.size) (i32.const 64)) (then unreachable))))
