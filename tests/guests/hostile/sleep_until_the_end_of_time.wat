;; Waits for the last instant of the clock, together with a hundred others.
;; outcome: deadline "in functions of the host"
(func $attack
  (local $at i32)
  (local.set $at (i32.const 1024))
  (loop $again
    (i32.store (local.get $at) (call $subscribe-instant (i64.const -1)))
    (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 1424))))
  (call $poll (i32.const 1024) (i32.const 100) (i32.const 128)))
