;; Does nothing: what the other guests are measured against.
;; harmless
(func $attack)
