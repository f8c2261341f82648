;; Uses the name of a figure that others count under for another kind of figure, and traps. The other tasks begin to count a little later.
;; outcome: trap "unreachable"
(data (i32.const 1032) "ticks")
(func $attack
  (call $gauge-set (i32.const 1032) (i32.const 5) (f64.const 1))
  unreachable)
(func $tick
  (if (i64.gt_s (call $store.increment (call $mine) (i32.const 1032) (i32.const 5) (i64.const 1)) (i64.const 100))
    (then (call $counter-add (i32.const 1032) (i32.const 5) (i64.const 1)))))
