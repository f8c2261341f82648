;; Asks for a value of the configuration under a name of a million characters.
;; harmless
(func $attack
  (call $config.get (i32.const 0x10000) (i32.const 1000000) (i32.const 128)))
