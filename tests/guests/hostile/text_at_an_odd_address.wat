;; Logs text of UTF-16 from an odd address.
;; strings: utf16
;; outcome: trap "aligned"
(data $strings (i32.const 32) "o\00u\00t\00")
(func $attack
  (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1025) (i32.const 3)))
