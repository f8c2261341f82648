// Package export_wasm_host_benches_shapes_packed is the counter, many messages a call, as packed columns.
package export_wasm_host_benches_shapes_packed

import (
	"encoding/binary"

	"wit_component/counter"
	store "wit_component/wasm_host_benches_shapes_store"
	types "wit_component/wasm_host_benches_shapes_types"
)

// reader gives the entries of a column in their order. What is absent is empty, and an empty entry means the same to the
// counter.
type reader struct {
	// ends are those of the entries that are still to come.
	ends []byte
	data []byte
	at   uint32
}

func read(column types.PackedColumn) reader {
	return reader{ends: column.Ends, data: column.Data}
}

func (r *reader) entry() []byte {
	start, end := r.at, binary.LittleEndian.Uint32(r.ends)
	r.ends = r.ends[4:]
	r.at = end
	return r.data[start:end]
}

// Touch reads the messages.
func Touch(batch types.PackedBatch) (sum uint64) {
	keys, values := read(batch.Messages.Keys.Some()), read(batch.Messages.Values)
	for i := 0; i < len(batch.Offsets); i += 8 {
		offset := binary.LittleEndian.Uint64(batch.Offsets[i:])
		timestamp := int64(binary.LittleEndian.Uint64(batch.Messages.Timestamps[i:]))
		sum += counter.Touch(keys.entry(), values.entry(), offset, timestamp)
	}
	return sum
}

// CountSingle counts the messages one by one.
func CountSingle(batch types.PackedBatch) {
	keys, values := read(batch.Messages.Keys.Some()), read(batch.Messages.Values)
	for len(keys.ends) > 0 {
		counter.Single(keys.entry(), values.entry())
	}
}

// CountMany counts the messages at once. Their keys are those to read, to write and to send, as they are.
func CountMany(batch types.PackedBatch) {
	all := batch.Messages.Keys.Some()
	keys, values, stored := read(all), read(batch.Messages.Values), read(store.GetManyPacked(all))
	many := counter.NewMany(len(all.Ends)/4, len(all.Data))
	for len(keys.ends) > 0 {
		many.Count(keys.entry(), values.entry(), stored.entry())
	}
	many.WritePacked(all)
}
