;; Says that its answer is at an odd address.
;; outcome: trap "aligned"
(func $attack
  (global.set $answer (i32.const 65)))
