// Package export_wasm_host_task_batch_handler is the conformance guest, a batch a call.
package export_wasm_host_task_batch_handler

import (
	"encoding/binary"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/columns"
	"wit_component/commands"
	types "wit_component/wasm_host_task_types"
)

// Process carries out the commands of each message.
func Process(batch types.Batch) wit.Result[[]types.Rejection, string] {
	var rejections []types.Rejection
	for i := range columns.Len(batch.Messages.Values) {
		message := messageAt(batch, i)
		refusal := commands.CarryOut(&message)
		switch {
		case refusal == nil:
		case refusal.EndsCall:
			return wit.Err[[]types.Rejection](refusal.Reason)
		default:
			rejections = append(rejections, types.Rejection{
				Index:  uint32(i),
				Reason: refusal.Reason,
				Detail: refusal.Detail,
			})
		}
	}
	return wit.Ok[[]types.Rejection, string](rejections)
}

// messageAt is a message of a batch, as `message-handler` would get it.
func messageAt(batch types.Batch, i int) types.Message {
	message := types.Message{
		Input:     batch.Input,
		Partition: batch.Partition,
		Offset:    binary.LittleEndian.Uint64(batch.Offsets[8*i:]),
		Timestamp: int64(binary.LittleEndian.Uint64(batch.Messages.Timestamps[8*i:])),
		Value:     columns.At(batch.Messages.Values, i),
	}
	if batch.Messages.Keys.IsSome() {
		message.Key = columns.At(batch.Messages.Keys.Some(), i)
	}
	if batch.Messages.Headers.IsSome() {
		message.Headers = columns.HeadersAt(batch.Messages.Headers.Some(), i)
	}
	return message
}
