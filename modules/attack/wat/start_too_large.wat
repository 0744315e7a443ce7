;; Asks for more memory than it may have before it starts.
;;
;; Stopped by: the memory limit.
(module
  (memory (export "memory") 1000) (func (export "_start")))
