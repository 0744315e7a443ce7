;; Computes for ever before its first instruction.
;;
;; Stopped by: the deadline.
(module
  (memory (export "memory") 1) (func $s (loop $more (br $more))) (start $s) (func (export "_start")))
