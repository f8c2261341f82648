;; Asks the host a trivial question for ever.
;; outcome: deadline "`call-deadline`"
(func $attack
  (loop $again
    (drop (call $partition))
    (br $again)))
