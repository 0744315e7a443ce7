;; Calls a function as if it were of another type.
;;
;; Stopped by: the sandbox.
(module
  (memory (export "memory") 1) (table 1 funcref) (elem (i32.const 0) $f)
  (func $f (param i64 i64) (result i64) (local.get 0))
  (func (export "_start") (drop (call_indirect (param i32) (result i32) (i32.const 1) (i32.const 0)))))
