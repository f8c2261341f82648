;; Reports a figure under a name of a million characters.
;; outcome: trap "a name has 1 to 64 characters"
(func $attack
  (memory.fill (i32.const 0x10000) (i32.const 0x61) (i32.const 1000000))
  (call $counter-add (i32.const 0x10000) (i32.const 1000000) (i64.const 1)))
