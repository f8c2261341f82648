;; Answers with case 7 of a result, which has two.
;; outcome: trap "discriminant"
(func $attack
  (i32.store8 (i32.const 64) (i32.const 7)))
