;; Begins scans for ever, and keeps every cursor.
;; outcome: limit "`cursors`"
(func $attack
  (local $store i32)
  (local.set $store (call $mine))
  (loop $again
    (drop (call $scan-all (local.get $store)))
    (br $again)))
