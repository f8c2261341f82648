;; Logs 5,000 lines of 20 kB, full of escape sequences for a terminal, bells and new lines.
;; harmless
;; says: "lines were dropped"
;; says: "\u{1b}]0;"
(data (i32.const 1024) "\1b]0;mine now\07\1b[2J\1b[31m\0d\0a\c2\9b0m\e2\80\ae")
(func $attack
  (local $count i32)
  (loop $copy
    (memory.copy (i32.add (i32.const 1056) (local.get $count)) (i32.const 1024) (i32.const 32))
    (br_if $copy (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 32))) (i32.const 20000))))
  (local.set $count (i32.const 0))
  (loop $again
    (call $log (i32.const 4) (i32.const 1024) (i32.const 32) (i32.const 1024) (i32.const 20000))
    (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 5000)))))
