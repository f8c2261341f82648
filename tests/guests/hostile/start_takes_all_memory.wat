;; Takes all memory while the instance is being made, and traps.
;; refused: "its limit `memory` is 16777216"
(func $begin
  (loop $again
    (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
(start $begin)
(func $attack)
