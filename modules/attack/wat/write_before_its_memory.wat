;; Writes to where its host might have something.
;;
;; Stopped by: the sandbox.
(module
  (memory (export "memory") 1)
  (func (export "_start") (i64.store (i32.const -65536) (i64.const -1))))
