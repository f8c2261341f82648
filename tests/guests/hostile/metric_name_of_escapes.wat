;; Reports a figure under a name with line ends and quotes, as if it were more lines of metrics.
;; outcome: trap "a name has 1 to 64 characters"
(data (i32.const 1024) "a\22} 1\0aevil 2\1b[2J")
(func $attack
  (call $counter-add (i32.const 1024) (i32.const 16) (i64.const 1)))
