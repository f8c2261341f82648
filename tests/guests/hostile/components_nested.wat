;; Components in components, 40 deep.
;; refused: "its components are nested 41 deep, and this host takes 32"
(component
{{40:(component
}}
{{40:)
}})
