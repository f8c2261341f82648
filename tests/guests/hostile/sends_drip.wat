;; Sends small messages, one after the other, until it may not any more.
;; outcome: limit "`staged-bytes`"
(func $attack
  (loop $again
    (call $send-out (i32.const 0) (i32.const 1000) (i32.const 0) (i32.const 0))
    (br $again)))
