// Package export_wasm_host_benches_shapes_one is the counter, a message a call.
package export_wasm_host_benches_shapes_one

import (
	"wit_component/counter"
	types "wit_component/wasm_host_benches_shapes_types"
)

// Touch reads the message.
func Touch(message types.Message) uint64 {
	return counter.Touch(message.Key.SomeOr(nil), message.Value.SomeOr(nil), message.Offset, message.Timestamp)
}

// CountSingle counts the message.
func CountSingle(message types.Message) {
	counter.Single(message.Key.SomeOr(nil), message.Value.SomeOr(nil))
}
