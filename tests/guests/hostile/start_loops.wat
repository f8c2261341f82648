;; Computes for ever while the instance is being made.
;; refused: "`call-deadline`"
(func $begin (loop $again (br $again)))
(start $begin)
(func $attack)
