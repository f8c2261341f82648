;; Reads, and skips, 2^64 - 1 bytes of standard input, which is empty.
;; harmless
(func $attack
  (local $stream i32)
  (local.set $stream (call $stdin))
  (call $input.read (local.get $stream) (i64.const -1) (i32.const 128))
  (call $input.blocking-skip (local.get $stream) (i64.const -1) (i32.const 128)))
