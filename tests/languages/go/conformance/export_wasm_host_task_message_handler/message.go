// Package export_wasm_host_task_message_handler is the conformance guest, one message a call.
package export_wasm_host_task_message_handler

import (
	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/commands"
	types "wit_component/wasm_host_task_types"
)

// Process carries out the commands of a message.
func Process(message types.Message) wit.Result[wit.Unit, string] {
	if refusal := commands.CarryOut(&message); refusal != nil {
		return wit.Err[wit.Unit](refusal.Reason)
	}
	return wit.Ok[wit.Unit, string](wit.Unit{})
}
