;; Begins 1,000 scans at every tick and drops no cursor, so that its instances come to more handles than they may hold. Each is replaced then.
;; limits: cursors = 1000
;; harmless
(func $leak
  (local $store i32) (local $count i32)
  (local.set $store (call $mine))
  (loop $again
    (drop (call $scan-all (local.get $store)))
    (br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
  (call $store.drop (local.get $store)))
(func $tick (call $leak))
(func $attack (call $leak))
