;; Takes memory until it gets no more, and traps then, as an allocator of a language does.
;; outcome: memory "its limit `memory` is 16777216"
(func $attack
  (loop $again
    (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable)
