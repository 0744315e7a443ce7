;; Has the engine fill its memory again and again.
;;
;; Stopped by: the deadline.
(module
  (memory (export "memory") 256)
  (func (export "_start") (loop $more (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216)) (br $more))))
