;; Takes standard output again and again, and keeps every stream.
;; outcome: limit "`handles`"
(func $attack
  (loop $again
    (drop (call $stdout))
    (br $again)))
