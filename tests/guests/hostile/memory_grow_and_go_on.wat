;; Takes all memory that it gets, page by page, and touches each page. Then it goes on as if nothing had happened.
;; harmless
(func $attack
  (local $page i32)
  (loop $again
    (local.set $page (memory.grow (i32.const 1)))
    (if (i32.ne (local.get $page) (i32.const -1))
      (then
        (i32.store (i32.shl (local.get $page) (i32.const 16)) (i32.const 1))
        (br $again)))))
