;; Reads beyond the end of its memory.
;;
;; Stopped by: the sandbox.
(module
  (memory (export "memory") 1)
  (func (export "_start") (drop (i64.load offset=0xffffffff (i32.const -8)))))
