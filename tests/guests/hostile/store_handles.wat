;; Opens a store again and again, and keeps every handle.
;; outcome: limit "`handles`"
(func $attack
  (loop $again
    (drop (call $mine))
    (br $again)))
