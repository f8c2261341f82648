// Package export_wasm_host_benches_shapes_rows is the counter, many messages a call, as rows.
package export_wasm_host_benches_shapes_rows

import (
	"wit_component/counter"
	store "wit_component/wasm_host_benches_shapes_store"
	types "wit_component/wasm_host_benches_shapes_types"
)

// Touch reads the messages.
func Touch(messages []types.Message) (sum uint64) {
	for i := range messages {
		message := &messages[i]
		sum += counter.Touch(message.Key.SomeOr(nil), message.Value.SomeOr(nil), message.Offset, message.Timestamp)
	}
	return sum
}

// CountSingle counts the messages one by one.
func CountSingle(messages []types.Message) {
	for i := range messages {
		counter.Single(messages[i].Key.SomeOr(nil), messages[i].Value.SomeOr(nil))
	}
}

// CountMany counts the messages at once.
func CountMany(messages []types.Message) {
	keys := types.BytesColumn{Ends: make([]uint32, 0, len(messages))}
	for i := range messages {
		keys.Data = append(keys.Data, messages[i].Key.SomeOr(nil)...)
		keys.Ends = append(keys.Ends, uint32(len(keys.Data)))
	}
	stored := store.GetMany(keys)

	many := counter.NewMany(len(messages), len(keys.Data))
	var start uint32
	for i, end := range stored.Ends {
		many.Count(messages[i].Key.SomeOr(nil), messages[i].Value.SomeOr(nil), stored.Data[start:end])
		start = end
	}
	many.Write(keys)
}
