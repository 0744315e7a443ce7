;; Calls a place of a table where nothing is.
;;
;; Stopped by: the sandbox.
(module
  (memory (export "memory") 1) (table 8 funcref)
  (func (export "_start") (call_indirect (i32.const 7))))
