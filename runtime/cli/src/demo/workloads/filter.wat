;; Smooths 1,000 made-up readings with an exponential filter, and prints their mean.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "mean of 1000 smoothed readings: ")
  (data (i32.const 128) "000.0 C\n")

  ;; A reading in tenths of a degree: a slow wave and some noise.
  (func $reading (param $n i32) (result i32)
    (i32.add
      (i32.add (i32.const 200) (i32.rem_u (i32.mul (local.get $n) (i32.const 7)) (i32.const 50)))
      (i32.rem_u (i32.shr_u (i32.mul (local.get $n) (i32.const 1103515245)) (i32.const 16)) (i32.const 20))))

  ;; Writes the digit of a number at a place.
  (func $digit (param $place i32) (param $value i32)
    (i32.store8 (local.get $place) (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10)))))

  (func (export "_start")
    (local $n i32) (local $smooth i32) (local $sum i32)
    (local.set $smooth (i32.mul (call $reading (i32.const 0)) (i32.const 256)))
    (loop $next
      ;; smooth += (reading - smooth) / 8, in 1/256 of a tenth
      (local.set $smooth
        (i32.add (local.get $smooth)
          (i32.div_s
            (i32.sub (i32.mul (call $reading (local.get $n)) (i32.const 256)) (local.get $smooth))
            (i32.const 8))))
      (local.set $sum (i32.add (local.get $sum) (i32.div_s (local.get $smooth) (i32.const 256))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const 1000))))
    (local.set $sum (i32.div_u (local.get $sum) (i32.const 1000)))
    (call $digit (i32.const 128) (i32.div_u (local.get $sum) (i32.const 1000)))
    (call $digit (i32.const 129) (i32.div_u (local.get $sum) (i32.const 100)))
    (call $digit (i32.const 130) (i32.div_u (local.get $sum) (i32.const 10)))
    (call $digit (i32.const 132) (local.get $sum))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 128)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
