;; Makes resources of its own for ever. They are in a table of the host, not in the memory of the guest.
;; exports: resources
;; outcome: limit "handles of all kinds together"
(import "[export]things" "[resource-new]thing" (func $thing.new (param i32) (result i32)))
(func $drop-thing (export "things#[dtor]thing") (param i32))
(func $attack
  (loop $again
    (drop (call $thing.new (i32.const 1)))
    (br $again)))
