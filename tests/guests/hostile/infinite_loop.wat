;; Computes for ever.
;; outcome: deadline "`call-deadline`"
(func $attack
  (loop $again (br $again)))
