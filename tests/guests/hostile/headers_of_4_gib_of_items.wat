;; Sends a message with 2^32 - 1 headers: their number times their size is more than 32 bits hold.
;; outcome: trap "out of bounds"
(func $attack
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 1024) (i32.const -1)))
