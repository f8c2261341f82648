;; Writes small entries, one after the other, until it may not any more.
;; outcome: limit "`staged-bytes`"
(func $attack
  (local $store i32) (local $key i32)
  (local.set $store (call $mine))
  (loop $again
    (call $put4 (local.get $store) (local.get $key) (i32.const 0) (i32.const 1000))
    (local.set $key (i32.add (local.get $key) (i32.const 1)))
    (br $again)))
