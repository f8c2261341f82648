;; A list of lists of lists, 5,000 deep.
;; refused: "it does not compile"
(component
  (type (list u8))
  {{5000:(type (list #))
  }}
  (type (func (param "deep" 5000))))
