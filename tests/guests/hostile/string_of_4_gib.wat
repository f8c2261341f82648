;; Logs a line of 4 GiB less one byte: pointer and length together are more than 32 bits hold.
;; outcome: trap "out of bounds"
(func $attack
  (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const -1)))
