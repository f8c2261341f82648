;; Asks for a checkpoint 10,000 times, and once more at every tick.
;; harmless
(func $tick (call $request-checkpoint))
(func $attack
  (local $count i32)
  (loop $again
    (call $request-checkpoint)
    (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000)))))
