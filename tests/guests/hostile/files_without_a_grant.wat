;; Looks for granted folders, environment variables and arguments, and traps if there is anything.
;; harmless
(func $attack
  (call $directories (i32.const 128))
  (if (i32.load (i32.const 132)) (then unreachable))
  (call $environment (i32.const 128))
  (if (i32.load (i32.const 132)) (then unreachable))
  (call $arguments (i32.const 128))
  (if (i32.load (i32.const 132)) (then unreachable)))
