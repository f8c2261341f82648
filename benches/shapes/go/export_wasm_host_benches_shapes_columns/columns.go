// Package export_wasm_host_benches_shapes_columns is the counter, many messages a call, as columns.
package export_wasm_host_benches_shapes_columns

import (
	"wit_component/counter"
	store "wit_component/wasm_host_benches_shapes_store"
	types "wit_component/wasm_host_benches_shapes_types"
)

// reader gives the entries of a column in their order. What is absent is empty, and an empty entry means the same to the
// counter.
type reader struct {
	ends []uint32
	data []byte
	next int
	at   uint32
}

func read(column types.BytesColumn) reader {
	return reader{ends: column.Ends, data: column.Data}
}

func (r *reader) entry() []byte {
	start, end := r.at, r.ends[r.next]
	r.next++
	r.at = end
	return r.data[start:end]
}

// Touch reads the messages.
func Touch(batch types.Batch) (sum uint64) {
	keys, values := read(batch.Messages.Keys.Some()), read(batch.Messages.Values)
	for i, offset := range batch.Offsets {
		sum += counter.Touch(keys.entry(), values.entry(), offset, batch.Messages.Timestamps[i])
	}
	return sum
}

// CountSingle counts the messages one by one.
func CountSingle(batch types.Batch) {
	keys, values := read(batch.Messages.Keys.Some()), read(batch.Messages.Values)
	for range batch.Offsets {
		counter.Single(keys.entry(), values.entry())
	}
}

// CountMany counts the messages at once. Their keys are those to read, to write and to send, as they are.
func CountMany(batch types.Batch) {
	all := batch.Messages.Keys.Some()
	keys, values, stored := read(all), read(batch.Messages.Values), read(store.GetMany(all))
	many := counter.NewMany(len(all.Ends), len(all.Data))
	for range batch.Offsets {
		many.Count(keys.entry(), values.entry(), stored.entry())
	}
	many.Write(all)
}
