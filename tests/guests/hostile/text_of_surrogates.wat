;; Logs a character that is half of one: a surrogate of UTF-8 bytes, which no text may have.
;; outcome: trap "invalid utf-8"
(data (i32.const 1024) "\ed\a0\80")
(func $attack
  (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 3)))
