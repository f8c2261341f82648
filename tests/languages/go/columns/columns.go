// Package columns reads and makes columns: many byte strings in flat lists of bytes.
package columns

import (
	"encoding/binary"
	"sort"

	wit "go.bytecodealliance.org/pkg/wit/types"
	types "wit_component/wasm_host_task_types"
)

// Len is how many entries a column has.
func Len(column types.BytesColumn) int {
	return len(column.Ends) / 4
}

// At is an entry of a column, none if it is absent. It shares the column's memory.
func At(column types.BytesColumn, index int) wit.Option[[]byte] {
	_, absent := sort.Find(len(column.Absent)/4, func(i int) int { return index - int(uint32At(column.Absent, i)) })
	if absent {
		return wit.None[[]byte]()
	}
	start, end := bounds(column.Ends, index)
	return wit.Some(column.Data[start:end:end])
}

// HeadersAt are the headers of a message.
func HeadersAt(column types.HeadersColumn, index int) []types.Header {
	var headers []types.Header
	for i, end := bounds(column.Ends, index); i < end; i++ {
		name := string(At(column.Names, int(i)).Some())
		headers = append(headers, types.Header{Name: name, Value: At(column.Values, int(i))})
	}
	return headers
}

// bounds is where an entry starts and ends.
func bounds(ends []byte, index int) (start, end uint32) {
	if index > 0 {
		start = uint32At(ends, index-1)
	}
	return start, uint32At(ends, index)
}

// Append is a column with one more entry.
func Append[T string | []byte](column types.BytesColumn, entry T) types.BytesColumn {
	column.Data = append(column.Data, entry...)
	column.Ends = appendUint32(column.Ends, len(column.Data))
	return column
}

// AppendOption is a column with one more entry, absent if it is none.
func AppendOption(column types.BytesColumn, entry wit.Option[[]byte]) types.BytesColumn {
	if !entry.IsSome() {
		column.Absent = appendUint32(column.Absent, Len(column))
	}
	return Append(column, entry.SomeOr(nil))
}

// AppendHeaders is a column with the headers of one more message.
func AppendHeaders(column types.HeadersColumn, headers []types.Header) types.HeadersColumn {
	for _, header := range headers {
		column.Names = Append(column.Names, header.Name)
		column.Values = AppendOption(column.Values, header.Value)
	}
	column.Ends = appendUint32(column.Ends, Len(column.Names))
	return column
}

func uint32At(packed []byte, index int) uint32 {
	return binary.LittleEndian.Uint32(packed[4*index:])
}

func appendUint32(packed []byte, number int) []byte {
	return binary.LittleEndian.AppendUint32(packed, uint32(number))
}
