;; Keeps structures that the engine collects, until there is no room for them.
;;
;; Stopped by: the memory limit.
(module
  (type $node (struct (field (ref null $node)) (field i64)))
  (memory (export "memory") 1)
  (func (export "_start") (local $list (ref null $node))
    (loop $more
      (local.set $list (struct.new $node (local.get $list) (i64.const 1)))
      (br $more))))
