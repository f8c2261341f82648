;; Writes to standard error while the instance is being made, before the functions of the host are at hand.
;; refused: "uninitialized element"
(func $begin (call $stream.write (call $stderr) (i32.const 32) (i32.const 3) (i32.const 128)))
(start $begin)
(func $attack)
