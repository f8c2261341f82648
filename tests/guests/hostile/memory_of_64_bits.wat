;; Has a memory with addresses of 64 bits, and lets it grow by an exbibyte at a time.
;; outcome: memory "its limit `memory` is 16777216"
(memory $huge i64 1)
(func $attack
  (loop $again
    (br_if $again (i64.ne (memory.grow $huge (i64.const 0x10_0000_0000)) (i64.const -1))))
  unreachable)
