;; Asks for 4 GiB for ever, although it is refused each time.
;; outcome: deadline "`call-deadline`"
(func $attack
  (loop $again
    (drop (memory.grow (i32.const 65535)))
    (br $again)))
