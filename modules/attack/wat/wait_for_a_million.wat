;; Waits for a million things at once.
;;
;; Stopped by: the deadline, or the bound on what a call brings.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (func (export "_start")
    (loop $more
      (drop (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 60000000)))
      (br $more))))
