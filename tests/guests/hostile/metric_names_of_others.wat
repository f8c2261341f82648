;; Takes all names of figures that the stage may use, and traps. The other tasks begin to report a figure of their own a little later.
;; limits: metric-names = 16
;; outcome: limit "may use 16 names (`metric-names`)"
(data (i32.const 1024) "a0")
(data (i32.const 1032) "ticks")
(func $attack
  (local $number i32)
  (loop $again
    (i32.store8 (i32.const 1025) (i32.add (i32.const 0x61) (local.get $number)))
    (call $counter-add (i32.const 1024) (i32.const 2) (i64.const 1))
    (br_if $again (i32.lt_u (local.tee $number (i32.add (local.get $number) (i32.const 1))) (i32.const 20)))))
(func $tick
  (if (i64.gt_s (call $store.increment (call $mine) (i32.const 1032) (i32.const 5) (i64.const 1)) (i64.const 100))
    (then (call $counter-add (i32.const 1032) (i32.const 5) (i64.const 1)))))
