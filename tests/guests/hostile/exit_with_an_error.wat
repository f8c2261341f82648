;; Ends itself with an error.
;; outcome: trap "exit"
(func $attack
  (call $exit (i32.const 1)))
