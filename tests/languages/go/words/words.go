// Package words is the word count: what a word is, how its count is stored, and what is sent of it.
package words

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/columns"
	output "wit_component/wasm_host_task_output"
	state "wit_component/wasm_host_task_state"
	types "wit_component/wasm_host_task_types"
)

// top is how many words are sent at the end.
const top = 20

// Counts is the store of the counts.
var Counts = sync.OnceValue(func() *state.Store { return state.StoreOpen("counts").Ok() })

// Of are the words of a line, in lower case: runs of the letters A to Z and of apostrophes, without the apostrophes at their
// ends, which are quotation marks.
func Of(line []byte) []string {
	var words []string
	for _, run := range bytes.FieldsFunc(line, endsWord) {
		if word := bytes.Trim(run, "'"); len(word) > 0 {
			words = append(words, string(bytes.ToLower(word)))
		}
	}
	return words
}

func endsWord(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '\'')
}

// Parse reads a stored count, 0 for a word that was never seen.
func Parse(stored wit.Option[[]byte]) uint64 {
	count, err := strconv.ParseUint(string(stored.SomeOr([]byte("0"))), 10, 64)
	if err != nil {
		panic(err)
	}
	return count
}

// Format makes a count to be stored.
func Format(count uint64) []byte {
	return strconv.AppendUint(nil, count, 10)
}

// JSON is the value of a message about a word.
func JSON(word string, count uint64) []byte {
	return fmt.Appendf(nil, `{"word":"%s","count":%d}`, word, count)
}

// Send sends a message about a word.
func Send(port, word string, count uint64) {
	output.Send(port, types.Outgoing{
		Key:   wit.Some([]byte(word)),
		Value: wit.Some(JSON(word, count)),
	})
}

// SendTop sends the most frequent words.
func SendTop() {
	type wordCount struct {
		word  string
		count uint64
	}
	var all []wordCount
	cursor := Counts().Scan(state.Range{}, state.ScanOptions{})
	defer cursor.Drop()
	for {
		next := cursor.Next(1_000, 1<<20)
		if columns.Len(next.Keys) == 0 {
			break
		}
		for i := range columns.Len(next.Keys) {
			word := string(columns.At(next.Keys, i).Some())
			all = append(all, wordCount{word, Parse(columns.At(next.Values, i))})
		}
	}
	// The sort is stable, and a scan goes by the alphabet: so do words that are equally frequent.
	slices.SortStableFunc(all, func(a, b wordCount) int { return cmp.Compare(b.count, a.count) })
	for _, found := range all[:min(top, len(all))] {
		Send("top", found.word, found.count)
	}
}
