;; Computes for half of the time that a call may take, at every attack. It is slow, and that is all.
;; harmless
(func $attack
  (local $end i64)
  (local.set $end (i64.add (call $now) (i64.const 100_000_000)))
  (loop $again
    (br_if $again (i64.lt_u (call $now) (local.get $end)))))
