;; Has the engine fill a table again and again.
;;
;; Stopped by: the deadline.
(module
  (memory (export "memory") 1) (table $t 500000 funcref)
  (func (export "_start") (loop $more (table.fill $t (i32.const 0) (ref.null func) (i32.const 500000)) (br $more))))
