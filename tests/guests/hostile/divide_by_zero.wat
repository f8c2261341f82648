;; Divides by zero.
;; outcome: trap "divide by zero"
(func $attack (drop (i32.div_s (i32.const 1) (i32.load (i32.const 2048)))))
