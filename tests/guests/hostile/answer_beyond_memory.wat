;; Says that its answer is at the last address.
;; outcome: trap "out of bounds"
(func $attack
  (global.set $answer (i32.const -4)))
