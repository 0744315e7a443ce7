;; Calls itself through a table.
;;
;; Stopped by: the bound on the stack.
(module
  (memory (export "memory") 1) (table 1 funcref) (elem (i32.const 0) $f)
  (func $f (param i64) (result i64) (i64.add (call_indirect (param i64) (result i64) (local.get 0) (i32.const 0)) (i64.const 1)))
  (func (export "_start") (drop (call $f (i64.const 0)))))
