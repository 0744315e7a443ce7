;; Has names that would write to the terminal when it traps.
;;
;; Stopped by: what is printed.
(module
  (memory (export "memory") 1)
  (func $"\1b]0;owned\07\1b[2J" unreachable)
  (func (export "_start") (call $"\1b]0;owned\07\1b[2J")))
