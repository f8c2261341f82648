;; Writes escape sequences to standard error 50,000 times, some of it in pieces, and traps.
;; outcome: trap "unreachable"
;; says: "lines were dropped"
(data (i32.const 1024) "\1b[2J\1b[31mred\07\0a")
(func $attack
  (local $count i32) (local $stream i32)
  (local.set $stream (call $stderr))
  (loop $again
    (call $stream.write (local.get $stream) (i32.const 1024) (i32.rem_u (local.get $count) (i32.const 15)) (i32.const 128))
    (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50000))))
  unreachable)
