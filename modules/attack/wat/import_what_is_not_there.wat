;; Imports a function of the host that there is not.
;;
;; Stopped by: the linker.
(module
  (import "host" "execute" (func (param i32)))
  (memory (export "memory") 1) (func (export "_start")))
