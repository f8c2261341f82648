;; Logs text of UTF-16 that begins with the second half of a character and ends with the first half of one.
;; strings: utf16
;; outcome: trap "unpaired surrogate"
(data (i32.const 1024) "\00\dc\61\00\00\d8")
(data $strings (i32.const 32) "o\00u\00t\00")
(func $attack
  (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 3)))
