;; Rejects the message with a reason of escape sequences, line ends and characters that turn the direction of text.
;; outcome: rejected "red"
(data (i32.const 1024) "\1b[2J\1b]0;mine\07\1b[31mred\0d\0a\e2\80\ae\c2\9b")
(func $attack
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 1024))
  (i32.store (i32.const 72) (i32.const 29)))
