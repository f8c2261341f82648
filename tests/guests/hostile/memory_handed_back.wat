;; Says that all of its memory is free, takes it again, and looks whether anything of another instance is in it.
;; harmless
(func $attack
  (local $at i32)
  (drop (memory.grow (i32.const 100)))
  (local.set $at (i32.const 0x200000))
  (loop $again
    (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
    (i64.store (local.get $at) (i64.const -1))
    (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 0x840000)))))
;; Every tick leaves a page full of ones behind, and traps at any that it does not know.
(global $mine (mut i32) (i32.const 0))
(func $tick
  (local $page i32)
  (local.set $page (memory.grow (i32.const 1)))
  (if (i32.eq (local.get $page) (i32.const -1)) (then (return)))
  (local.set $page (i32.shl (local.get $page) (i32.const 16)))
  (if (i64.ne (i64.load (local.get $page)) (i64.const 0)) (then unreachable))
  (memory.fill (local.get $page) (i32.const 255) (i32.const 65536)))
