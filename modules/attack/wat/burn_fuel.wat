;; Computes more than it may.
;;
;; Stopped by: the bound on instructions.
(module
  (memory (export "memory") 1) (func (export "_start") (loop $more (br $more))))
