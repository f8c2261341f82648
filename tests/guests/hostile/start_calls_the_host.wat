;; Calls the host while the instance is being made.
;; refused: "outside of any call"
(func $begin (drop (call $partition)))
(start $begin)
(func $attack)
