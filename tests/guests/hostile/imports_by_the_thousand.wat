;; Imports five hundred interfaces that the host does not have.
;; refused: "which this host does not provide"
(component
{{500:(import "my:own/thing#@1.0.0" (instance))
}})
