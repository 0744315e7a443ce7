;; Computes without pause.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $x i64)
    (local.set $x (i64.const 88172645463325252))
    (loop $again
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (br_if $again (i64.ne (local.get $x) (i64.const 0))))))
