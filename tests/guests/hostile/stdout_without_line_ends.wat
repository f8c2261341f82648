;; Writes 40 MB to standard output, without a line end.
;; limits: call-deadline = "1s"
;; harmless
;; says: "lines were dropped"
(func $attack
  (local $count i32) (local $stream i32)
  (local.set $stream (call $stdout))
  (memory.fill (i32.const 0x10000) (i32.const 0x41) (i32.const 0x10000))
  (loop $again
    (call $stream.write (local.get $stream) (i32.const 0x10000) (i32.const 40000) (i32.const 128))
    (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000)))))
