;; Makes pollables of the clock for ever, and keeps every one.
;; outcome: limit "`handles`"
(func $attack
  (loop $again
    (drop (call $subscribe-duration (i64.const 1)))
    (br $again)))
