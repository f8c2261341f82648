;; Sends a message with 65 headers.
;; outcome: limit "`headers`"
(func $attack
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 1024) (i32.const 65)))
