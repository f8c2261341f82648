// Package commands carries out the commands of a message. What they mean is in conformance/README.md.
package commands

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/columns"
	config "wit_component/wasi_config_store"
	logging "wit_component/wasi_logging_logging"
	context "wit_component/wasm_host_task_context"
	metrics "wit_component/wasm_host_task_metrics"
	output "wit_component/wasm_host_task_output"
	state "wit_component/wasm_host_task_state"
	types "wit_component/wasm_host_task_types"
)

// Refusal is why a message has no result.
type Refusal struct {
	Reason string
	// Detail helps to handle a rejected message later.
	Detail wit.Option[[]byte]
	// EndsCall says that the whole call ends with this error, and not only the message.
	EndsCall bool
}

// What an instance keeps between calls.
var (
	// Opened is how often it was opened.
	Opened  int
	stores  = make(map[string]*state.Store)
	cursors = make(map[string]*state.Cursor)
)

// CarryOut carries out the commands of a message and sends their results, unless it is refused.
func CarryOut(message *types.Message) *Refusal {
	script, _, _ := bytes.Cut(message.Value.SomeOr(nil), []byte("\n"))
	if len(script) == 0 {
		script = []byte("see")
	}
	var results []string
	for _, command := range strings.Split(string(script), ";") {
		words := read(command)
		name := words.text()
		switch name {
		case "err":
			return &Refusal{Reason: words.text(), EndsCall: true}
		case "reject":
			return &Refusal{Reason: words.text(), Detail: words.perhaps()}
		}
		results = append(results, result(name, words, message))
		words.end()
	}
	SendResult(strings.Join(results, "; "))
	return nil
}

// SendResult sends a text to the port `results`.
func SendResult(text string) {
	output.Send("results", types.Outgoing{Value: wit.Some([]byte(text))})
}

// result carries out a command.
func result(name string, words *words, message *types.Message) string {
	switch name {
	case "see":
		return see(message)
	case "context":
		return seeContext()
	case "now":
		if first, second := context.NowMs(), context.NowMs(); first != second || first <= 1_600_000_000_000 {
			return "now differs"
		}
		return "now same"
	case "opened":
		return fmt.Sprintf("opened %d", Opened)

	case "open":
		return "open " + open(words.word())
	case "get":
		return "get " + show(Store(words.word()).Get(words.bytes()))
	case "put":
		Store(words.word()).Put(words.bytes(), words.bytes(), wit.None[state.PutOptions]())
	case "put-options":
		Store(words.word()).Put(words.bytes(), words.bytes(), wit.Some(state.PutOptions{}))
		return "put"
	case "delete":
		Store(words.word()).Delete(words.bytes())
	case "increment":
		return fmt.Sprintf("increment %d", Store(words.word()).Increment(words.bytes(), words.int64()))
	case "get-many":
		return name + showEntries(Store(words.word()).GetMany(words.column()), types.BytesColumn{})
	case "put-many":
		store := Store(words.word())
		keys, values := words.assignments()
		store.PutMany(keys, values, wit.None[state.PutOptions]())
	case "delete-range":
		Store(words.word()).DeleteRange(words.bounds())
	case "scan":
		cursor := Store(words.word()).Scan(words.bounds(), words.scanOptions())
		defer cursor.Drop()
		return name + readAll(cursor, words.uint32(), words.uint32())
	case "cursor":
		kept := words.word()
		cursor := Store(words.word()).Scan(words.bounds(), words.scanOptions())
		drop(kept)
		cursors[kept] = cursor
	case "next":
		next := words.cursor().Next(words.uint32(), words.uint32())
		return name + showEntries(next.Keys, next.Values)
	case "drop":
		drop(words.word())

	case "send":
		output.Send(words.word(), words.outgoing())
	case "send-many":
		port := words.word()
		messages, partitions := words.messages()
		output.SendMany(port, messages, partitions)

	case "trap":
		panic(words.text())
	case "log":
		logging.Log(words.level(), words.text(), words.text())
	case "print":
		line := words.text()
		fmt.Println(line)
		fmt.Fprintln(os.Stderr, line)
	case "counter":
		metrics.CounterAdd(words.word(), words.uint64())
	case "gauge":
		metrics.GaugeSet(words.word(), float64(words.int64()))
	case "histogram":
		metrics.HistogramRecord(words.word(), float64(words.int64()))
	case "config":
		return "config " + config.Get(words.word()).Ok().SomeOr("~")
	case "config-all":
		return "config-all " + seeConfig()
	case "checkpoint":
		context.RequestCheckpoint()
	case "stop":
		context.RequestStop(words.text())

	default:
		panic(fmt.Sprintf("there is no command %q", name))
	}
	return name
}

// Store is an open store. Its handle is good as long as the instance lives.
func Store(name string) *state.Store {
	if store, isOpen := stores[name]; isOpen {
		return store
	}
	opened := state.StoreOpen(name)
	if opened.IsErr() {
		panic(fmt.Sprintf("the store %q does not open", name))
	}
	stores[name] = opened.Ok()
	return stores[name]
}

// open tells whether a store opens.
func open(name string) string {
	opened := state.StoreOpen(name)
	if !opened.IsErr() {
		opened.Ok().Drop()
		return "ok"
	}
	err := opened.Err()
	if err.Tag() == state.OpenError_NoSuchStore {
		return "no-such-store"
	}
	return "other"
}

// readAll shows what a cursor has yet to give.
func readAll(cursor *state.Cursor, maxEntries, maxBytes uint32) string {
	var shown strings.Builder
	for {
		next := cursor.Next(maxEntries, maxBytes)
		if columns.Len(next.Keys) == 0 {
			return shown.String()
		}
		shown.WriteString(showEntries(next.Keys, next.Values))
	}
}

// drop drops a kept cursor, if there is one.
func drop(name string) {
	if cursor, kept := cursors[name]; kept {
		cursor.Drop()
		delete(cursors, name)
	}
}

func see(message *types.Message) string {
	headers := "-"
	if len(message.Headers) > 0 {
		var shown []string
		for _, header := range message.Headers {
			shown = append(shown, header.Name+"="+show(header.Value))
		}
		headers = strings.Join(shown, ",")
	}
	return fmt.Sprintf("see input=%d partition=%d offset=%d timestamp=%d key=%s value=%s headers=%s",
		message.Input, message.Partition, message.Offset, message.Timestamp,
		show(message.Key), show(message.Value), headers)
}

func seeContext() string {
	var inputs []string
	for _, input := range context.Inputs() {
		kind := "other"
		switch input.Kind.Tag() {
		case context.InputKind_Partitioned:
			kind = "partitioned"
		case context.InputKind_Broadcast:
			kind = "broadcast"
		}
		inputs = append(inputs, input.Port+":"+kind)
	}
	return fmt.Sprintf("context job=%s stage=%s task=%s partition=%d partitions=%d inputs=%s version=%d",
		context.Job(), context.Stage(), context.Task(), context.Partition(), context.Partitions(),
		strings.Join(inputs, ","), len(context.ComponentVersion()))
}

func seeConfig() string {
	var values []string
	for _, value := range config.GetAll().Ok() {
		values = append(values, value.F0+"="+value.F1)
	}
	slices.Sort(values)
	return strings.Join(values, ",")
}

// show shows bytes, only the ends of many.
func show(option wit.Option[[]byte]) string {
	if !option.IsSome() {
		return "~"
	}
	value := option.Some()
	switch {
	case len(value) == 0:
		return "."
	case len(value) <= 64:
		return fmt.Sprintf("%x", value)
	}
	sum := 0
	for _, b := range value {
		sum += int(b)
	}
	return fmt.Sprintf("#%d:%d:%x:%x", len(value), sum, value[:4], value[len(value)-4:])
}

// showEntries shows the entries of a column, with their values if there are any.
func showEntries(keys, values types.BytesColumn) string {
	var shown strings.Builder
	for i := range columns.Len(keys) {
		shown.WriteString(" " + show(columns.At(keys, i)))
		if columns.Len(values) > 0 {
			shown.WriteString("=" + show(columns.At(values, i)))
		}
	}
	return shown.String()
}
