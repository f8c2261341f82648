;; A function with 50,000 locals, all of which live until its end.
;; harmless
(func $much (param i64) (result i64)
  (local {{49000:i64 }})
  {{40000:(local.set # (i64.add (local.get 0) (i64.const #)))
  }}
  (i64.const 0)
  {{40000:(i64.mul (local.get #)) i64.const # i64.rotl
  }})
(func $attack)
