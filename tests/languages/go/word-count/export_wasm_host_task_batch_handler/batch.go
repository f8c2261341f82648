// Package export_wasm_host_task_batch_handler is the word count, a batch of lines a call: one read, one write and one send,
// however many words there are.
package export_wasm_host_task_batch_handler

import (
	"maps"
	"slices"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/columns"
	output "wit_component/wasm_host_task_output"
	state "wit_component/wasm_host_task_state"
	types "wit_component/wasm_host_task_types"
	"wit_component/words"
)

// Process counts the words of the lines, and sends each with its count.
func Process(lines types.Batch) wit.Result[[]types.Rejection, string] {
	var all []string
	for i := range columns.Len(lines.Messages.Values) {
		all = append(all, words.Of(columns.At(lines.Messages.Values, i).SomeOr(nil))...)
	}
	counts := make(map[string]uint64)
	for _, word := range all {
		counts[word] = 0
	}

	distinct := slices.Collect(maps.Keys(counts))
	var keys types.BytesColumn
	for _, word := range distinct {
		keys = columns.Append(keys, word)
	}
	stored := words.Counts().GetMany(keys)
	for i, word := range distinct {
		counts[word] = words.Parse(columns.At(stored, i))
	}

	var sentKeys, sentValues types.BytesColumn
	for _, word := range all {
		counts[word]++
		sentKeys = columns.Append(sentKeys, word)
		sentValues = columns.Append(sentValues, words.JSON(word, counts[word]))
	}
	var values types.BytesColumn
	for _, word := range distinct {
		values = columns.Append(values, words.Format(counts[word]))
	}
	words.Counts().PutMany(keys, values, wit.None[state.PutOptions]())
	output.SendMany("counts", types.Messages{Keys: wit.Some(sentKeys), Values: sentValues}, wit.None[[]byte]())
	return wit.Ok[[]types.Rejection, string](nil)
}
