// Package export_wasm_host_task_end_of_input is the end of the conformance guest's input.
package export_wasm_host_task_end_of_input

import (
	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/commands"
	end "wit_component/wasm_host_task_end_of_input"
)

var calls int

// OnEnd wants to be called twice.
func OnEnd() wit.Result[end.Progress, string] {
	calls++
	switch calls {
	case 1:
		commands.SendResult("end again")
		return wit.Ok[end.Progress, string](end.Progress_Again)
	case 2:
		commands.SendResult("end done")
		return wit.Ok[end.Progress, string](end.Progress_Done)
	}
	return wit.Err[end.Progress]("a third call")
}
