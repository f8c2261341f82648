;; Copies from a data segment and drops it, again and again, and copies from it after that.
;; outcome: trap "out of bounds"
(data $passive "{{1000:much }}")
(func $attack
  (memory.init $passive (i32.const 1024) (i32.const 0) (i32.const 5000))
  (data.drop $passive)
  (data.drop $passive)
  (memory.init $passive (i32.const 1024) (i32.const 0) (i32.const 1)))
