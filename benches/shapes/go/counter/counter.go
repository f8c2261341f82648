// Package counter is the counter, whatever the shape of what it is given.
package counter

import (
	"encoding/binary"

	wit "go.bytecodealliance.org/pkg/wit/types"
	store "wit_component/wasm_host_benches_shapes_store"
	types "wit_component/wasm_host_benches_shapes_types"
)

// Port is where messages are sent.
const Port = "out"

// stateSize is how many bytes the state of a key has.
const stateSize = 24

// state is the state of a key, as it is stored: how many messages, the sum of their first bytes, and the greatest of them.
type state [stateSize]byte

// readState is the state in an entry, which is empty where a key has none.
func readState(entry []byte) (s state) {
	copy(s[:], entry)
	return s
}

func (s *state) count(value []byte) {
	first := firstByte(value)
	le := binary.LittleEndian
	le.PutUint64(s[0:], le.Uint64(s[0:])+1)
	le.PutUint64(s[8:], le.Uint64(s[8:])+first)
	le.PutUint64(s[16:], max(le.Uint64(s[16:]), first))
}

func firstByte(value []byte) uint64 {
	if len(value) == 0 {
		return 0
	}
	return uint64(value[0])
}

// Touch reads a message.
func Touch(key, value []byte, offset uint64, timestamp int64) uint64 {
	return uint64(len(key)) + firstByte(value) + offset + uint64(timestamp)
}

// Single counts a message by itself.
func Single(key, value []byte) {
	state := readState(store.Get(key).SomeOr(nil))
	state.count(value)
	store.Put(key, state[:])
	store.Send(Port, types.Outgoing{
		Key:   wit.Some(key),
		Value: wit.Some(append(append(make([]byte, 0, len(key)+stateSize), key...), state[:]...)),
	})
}

// Many counts the messages of a call, and collects what comes of them: an entry for each message.
type Many struct {
	// States are the states that the messages have led to, end to end.
	States []byte
	// Sent is what they send, end to end, and SentEnds is where each of it ends.
	Sent     []byte
	SentEnds []uint32

	// places are those of keys in latest.
	places map[string]int
	latest []state
}

// NewMany expects so many messages, with so many bytes of keys.
func NewMany(messages, keyBytes int) *Many {
	return &Many{
		States:   make([]byte, 0, messages*stateSize),
		Sent:     make([]byte, 0, messages*stateSize+keyBytes),
		SentEnds: make([]uint32, 0, messages),
		places:   make(map[string]int, messages),
		latest:   make([]state, 0, messages),
	}
}

// Count counts a message. What is stored under its key matters the first time only.
func (m *Many) Count(key, value, stored []byte) {
	place, known := m.places[string(key)]
	if !known {
		place = len(m.latest)
		m.places[string(key)] = place
		m.latest = append(m.latest, readState(stored))
	}
	state := &m.latest[place]
	state.count(value)
	m.States = append(m.States, state[:]...)
	m.Sent = append(append(m.Sent, key...), state[:]...)
	m.SentEnds = append(m.SentEnds, uint32(len(m.Sent)))
}

// Write writes and sends what was counted, under the keys of the messages.
func (m *Many) Write(keys types.BytesColumn) {
	store.PutMany(keys, types.BytesColumn{Ends: stateEnds(len(keys.Ends)), Data: m.States})
	messages := types.Messages{
		Keys:   wit.Some(keys),
		Values: types.BytesColumn{Ends: m.SentEnds, Data: m.Sent},
	}
	store.SendMany(Port, messages, wit.None[[]uint32]())
}

// WritePacked is Write for packed columns.
func (m *Many) WritePacked(keys types.PackedColumn) {
	ends := pack(stateEnds(len(m.SentEnds)))
	store.PutManyPacked(keys, types.PackedColumn{Ends: ends, Data: m.States})
	messages := types.PackedMessages{
		Keys:   wit.Some(keys),
		Values: types.PackedColumn{Ends: pack(m.SentEnds), Data: m.Sent},
	}
	store.SendManyPacked(Port, messages, wit.None[[]byte]())
}

func stateEnds(count int) []uint32 {
	ends := make([]uint32, count)
	for i := range ends {
		ends[i] = uint32(i+1) * stateSize
	}
	return ends
}

func pack(numbers []uint32) []byte {
	packed := make([]byte, 0, 4*len(numbers))
	for _, number := range numbers {
		packed = binary.LittleEndian.AppendUint32(packed, number)
	}
	return packed
}
