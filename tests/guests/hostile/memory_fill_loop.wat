;; Fills 12 MiB again and again. One such instruction cannot be interrupted.
;; outcome: deadline "`call-deadline`"
(func $attack
  (call $have (i32.const 0xd00000))
  (loop $again
    (memory.fill (i32.const 0x100000) (i32.const 7) (i32.const 0xc00000))
    (br $again)))
