;; Writes 2^64 - 1 zero bytes to standard output in one call.
;; outcome: trap "cannot write more zeroes"
(func $attack
  (call $stream.write-zeroes (call $stdout) (i64.const -1) (i32.const 128)))
