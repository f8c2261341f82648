// Package export_wasm_host_task_message_handler is the word count, one line a call.
package export_wasm_host_task_message_handler

import (
	wit "go.bytecodealliance.org/pkg/wit/types"
	state "wit_component/wasm_host_task_state"
	types "wit_component/wasm_host_task_types"
	"wit_component/words"
)

// Process counts the words of a line, and sends each with its count.
func Process(line types.Message) wit.Result[wit.Unit, string] {
	for _, word := range words.Of(line.Value.SomeOr(nil)) {
		key := []byte(word)
		count := words.Parse(words.Counts().Get(key)) + 1
		words.Counts().Put(key, words.Format(count), wit.None[state.PutOptions]())
		words.Send("counts", word, count)
	}
	return wit.Ok[wit.Unit, string](wit.Unit{})
}
