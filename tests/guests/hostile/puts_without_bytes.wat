;; Writes entries without a value: only what the host adds to each counts.
;; outcome: limit "`staged-bytes`"
;; limits: staged-bytes = "4MiB"
(func $attack
  (local $store i32) (local $key i32)
  (local.set $store (call $mine))
  (loop $again
    (call $put4 (local.get $store) (local.get $key) (i32.const 0) (i32.const 0))
    (local.set $key (i32.add (local.get $key) (i32.const 1)))
    (br $again)))
