;; Throws and catches for ever, and keeps what it threw.
;;
;; Stopped by: the deadline, or the memory limit.
(module
  (tag $t (param i64)) (memory (export "memory") 1) (table $kept 1 exnref) (global $last (mut exnref) (ref.null exn))
  (func (export "_start")
    (loop $more
      (block $caught (result i64 exnref)
        (try_table (catch_ref $t $caught) (throw $t (i64.const 1)))
        unreachable)
      (global.set $last)
      (drop)
      (br $more))))
