;; Waits for the same pollable three million times in one call.
;; outcome: limit "handles of all kinds together"
;; limits: memory = "32MiB"
(func $attack
  (local $at i32) (local $one i32)
  (call $have (i32.const 0x1f00000))
  (local.set $one (call $subscribe-duration (i64.const 0)))
  (local.set $at (i32.const 0x200000))
  (loop $again
    (i32.store (local.get $at) (local.get $one))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 0x1c00000))))
  (call $poll (i32.const 0x200000) (i32.const 3000000) (i32.const 128)))
