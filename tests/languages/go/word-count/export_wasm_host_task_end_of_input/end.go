// Package export_wasm_host_task_end_of_input is the end of the word count's text.
package export_wasm_host_task_end_of_input

import (
	wit "go.bytecodealliance.org/pkg/wit/types"
	end "wit_component/wasm_host_task_end_of_input"
	"wit_component/words"
)

// OnEnd sends the most frequent words.
func OnEnd() wit.Result[end.Progress, string] {
	words.SendTop()
	return wit.Ok[end.Progress, string](end.Progress_Done)
}
