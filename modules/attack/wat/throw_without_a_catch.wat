;; Throws an exception that nobody catches.
;;
;; Stopped by: the sandbox.
(module
  (tag $t) (memory (export "memory") 1)
  (func (export "_start") (throw $t)))
