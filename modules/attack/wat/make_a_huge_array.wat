;; Makes an array that no machine has the memory for.
;;
;; Stopped by: the memory limit.
(module
  (type $bytes (array (mut i8)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (array.new $bytes (i32.const 1) (i32.const 0x7fffffff)))))
