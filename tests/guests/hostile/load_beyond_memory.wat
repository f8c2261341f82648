;; Reads behind the end of its memory, with an offset that makes it more than 32 bits.
;; outcome: trap "out of bounds memory access"
(func $attack (drop (i64.load offset=0xffffffff (i32.const -1))))
