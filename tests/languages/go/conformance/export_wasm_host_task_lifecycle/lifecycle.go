// Package export_wasm_host_task_lifecycle is begin and end of the conformance guest.
package export_wasm_host_task_lifecycle

import (
	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/commands"
	logging "wit_component/wasi_logging_logging"
)

// Open fails with what store `a` has under the key 00, if anything.
func Open() wit.Result[wit.Unit, string] {
	commands.Opened++
	reason := commands.Store("a").Get([]byte{0})
	logging.Log(logging.Level_Info, "lifecycle", "opened")
	if reason.IsSome() {
		return wit.Err[wit.Unit](string(reason.Some()))
	}
	return wit.Ok[wit.Unit, string](wit.Unit{})
}

// Close tells that it was called.
func Close() {
	logging.Log(logging.Level_Info, "lifecycle", "closed")
}
