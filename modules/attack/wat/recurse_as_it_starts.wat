;; Calls itself before its first instruction.
;;
;; Stopped by: the bound on the stack.
(module
  (memory (export "memory") 1)
  (func $f (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1)))
  (func $s (drop (call $f (i64.const 0))))
  (start $s) (func (export "_start")))
