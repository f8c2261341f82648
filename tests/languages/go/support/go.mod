// What the bindings of wit-bindgen need, under the path by which they import it. It takes the place of the module that is
// published there, with which a component traps when Go collects garbage: see wit/runtime.
module go.bytecodealliance.org/pkg

go 1.25
