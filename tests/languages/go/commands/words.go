package commands

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/columns"
	logging "wit_component/wasi_logging_logging"
	state "wit_component/wasm_host_task_state"
	types "wit_component/wasm_host_task_types"
)

// words are those of a command that have not been read yet. A word that is missing or cannot be read is a mistake of the
// script's author: reading it panics and says so.
type words struct {
	command string
	rest    []string
}

func read(command string) *words {
	return &words{command, strings.Fields(command)}
}

// word is the next word as it is.
func (w *words) word() string {
	if len(w.rest) == 0 {
		w.fail("a word is missing")
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

// remaining are all words that are left.
func (w *words) remaining() []string {
	rest := w.rest
	w.rest = nil
	return rest
}

// end is called when a command has been carried out.
func (w *words) end() {
	if len(w.rest) > 0 {
		w.fail("too many words")
	}
}

func (w *words) fail(why any) {
	panic(fmt.Sprintf("%s: %v", w.command, why))
}

func (w *words) text() string {
	return strings.ReplaceAll(w.word(), "_", " ")
}

func (w *words) bytes() []byte {
	return w.toBytes(w.word())
}

func (w *words) perhaps() wit.Option[[]byte] {
	return w.toPerhaps(w.word())
}

func (w *words) toBytes(word string) []byte {
	if word == "." {
		return nil
	}
	count, digits, repeated := strings.Cut(word, "x")
	if !repeated {
		count, digits = "1", word
	}
	value, err := hex.DecodeString(digits)
	if err != nil {
		w.fail(err)
	}
	times, err := strconv.ParseUint(count, 10, 31)
	if err != nil {
		w.fail(err)
	}
	return bytes.Repeat(value, int(times))
}

func (w *words) toPerhaps(word string) wit.Option[[]byte] {
	if word == "~" {
		return wit.None[[]byte]()
	}
	return wit.Some(w.toBytes(word))
}

func (w *words) int64() int64 {
	return number(w, w.word(), parseInt64)
}

func (w *words) uint64() uint64 {
	return number(w, w.word(), parseUint64)
}

func (w *words) uint32() uint32 {
	return number(w, w.word(), parseUint32)
}

func parseInt64(word string) (int64, error)   { return strconv.ParseInt(word, 10, 64) }
func parseUint64(word string) (uint64, error) { return strconv.ParseUint(word, 10, 64) }

func parseUint32(word string) (uint32, error) {
	value, err := strconv.ParseUint(word, 10, 32)
	return uint32(value), err
}

func number[N any](w *words, word string, parse func(string) (N, error)) N {
	value, err := parse(word)
	if err != nil {
		w.fail(err)
	}
	return value
}

// packed are the numbers of a word, joined by commas; none for `~`.
func packed[N any](w *words, parse func(string) (N, error)) wit.Option[[]byte] {
	word := w.word()
	if word == "~" {
		return wit.None[[]byte]()
	}
	var numbers []N
	for _, part := range strings.Split(word, ",") {
		numbers = append(numbers, number(w, part, parse))
	}
	bytes, err := binary.Append(nil, binary.LittleEndian, numbers)
	if err != nil {
		w.fail(err)
	}
	return wit.Some(bytes)
}

// optional is a number, none for `~`.
func optional[N any](w *words, parse func(string) (N, error)) wit.Option[N] {
	word := w.word()
	if word == "~" {
		return wit.None[N]()
	}
	return wit.Some(number(w, word, parse))
}

// cursor is a kept cursor.
func (w *words) cursor() *state.Cursor {
	cursor, kept := cursors[w.word()]
	if !kept {
		w.fail("no such cursor")
	}
	return cursor
}

func (w *words) bounds() state.Range {
	return state.Range{Start: w.perhaps(), End: w.perhaps()}
}

func (w *words) scanOptions() state.ScanOptions {
	return state.ScanOptions{Reverse: w.either("up", "down"), KeysOnly: w.either("entries", "keys")}
}

// either says which of two words it is: false for the first.
func (w *words) either(first, second string) bool {
	word := w.word()
	if word != first && word != second {
		w.fail("neither " + first + " nor " + second)
	}
	return word == second
}

func (w *words) level() logging.Level {
	levels := []string{"trace", "debug", "info", "warn", "error", "critical"}
	level := slices.Index(levels, w.word())
	if level < 0 {
		w.fail("no such level")
	}
	return logging.Level(level)
}

// column has all words that are left.
func (w *words) column() types.BytesColumn {
	var column types.BytesColumn
	for _, word := range w.remaining() {
		column = columns.AppendOption(column, w.toPerhaps(word))
	}
	return column
}

// assignment is a word `K=V`.
func (w *words) assignment(word string) (key, value wit.Option[[]byte]) {
	before, after, ok := strings.Cut(word, "=")
	if !ok {
		w.fail("no = in a word")
	}
	return w.toPerhaps(before), w.toPerhaps(after)
}

// assignments are all words that are left.
func (w *words) assignments() (keys, values types.BytesColumn) {
	for _, word := range w.remaining() {
		key, value := w.assignment(word)
		keys = columns.AppendOption(keys, key)
		values = columns.AppendOption(values, value)
	}
	return keys, values
}

// headers are words `name=V`.
func (w *words) headers(words []string) []types.Header {
	var headers []types.Header
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			w.fail("no = in a header")
		}
		headers = append(headers, types.Header{
			Name:  strings.ReplaceAll(name, "_", " "),
			Value: w.toPerhaps(value),
		})
	}
	return headers
}

// outgoing is a message to be sent, of all words that are left.
func (w *words) outgoing() types.Outgoing {
	return types.Outgoing{
		Key:       w.perhaps(),
		Value:     w.perhaps(),
		Timestamp: optional(w, parseInt64),
		Partition: optional(w, parseUint32),
		Headers:   w.headers(w.remaining()),
	}
}

// messages are all messages to be sent, of all words that are left, and where to.
func (w *words) messages() (types.Messages, wit.Option[[]byte]) {
	var messages types.Messages
	messages.Timestamps = packed(w, parseInt64).SomeOr(nil)
	partitions := packed(w, parseUint32)
	var keys types.BytesColumn
	var headers types.HeadersColumn
	for _, word := range w.remaining() {
		parts := strings.Split(word, ",")
		key, value := w.assignment(parts[0])
		keys = columns.AppendOption(keys, key)
		messages.Values = columns.AppendOption(messages.Values, value)
		headers = columns.AppendHeaders(headers, w.headers(parts[1:]))
	}
	if len(keys.Absent) < len(keys.Ends) {
		messages.Keys = wit.Some(keys)
	}
	if columns.Len(headers.Names) > 0 {
		messages.Headers = wit.Some(headers)
	}
	return messages, partitions
}
