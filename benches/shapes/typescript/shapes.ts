// The counter in every shape of wit/shapes.wit, on the bindings of componentize-qjs: the one in JavaScript, with types.

import type { Batch, BytesColumn, Message, PackedBatch, PackedColumn } from "wasm-host-benches:shapes/types";
import {
  get,
  getMany,
  getManyPacked,
  put,
  putMany,
  putManyPacked,
  send,
  sendMany,
  sendManyPacked,
} from "wasm-host-benches:shapes/store";

const PORT = "out";

// The state of a key: how many messages, the sum of their first bytes, and the greatest of them, in two words each, the lower
// one first. WebAssembly is little-endian, and so are typed arrays.
const STATE_WORDS = 6;
const STATE_BYTES = 4 * STATE_WORDS;
const NO_STATE = new Uint32Array(STATE_WORDS);

const HIGH = 2 ** 32;

/** The words that some bytes are. */
function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** The bytes that some words are. */
function bytes(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer);
}

/** Writes the state after one more message, given where the state before is. */
function count(before: Uint32Array, from: number, after: Uint32Array, to: number, first: number) {
  const messages = before[from] + before[from + 1] * HIGH + 1;
  const sum = before[from + 2] + before[from + 3] * HIGH + first;
  const greatest = before[from + 4] + before[from + 5] * HIGH;
  const now = first > greatest ? first : greatest;
  after[to] = messages;
  after[to + 1] = messages / HIGH;
  after[to + 2] = sum;
  after[to + 3] = sum / HIGH;
  after[to + 4] = now;
  after[to + 5] = now / HIGH;
}

const state = new Uint32Array(STATE_WORDS);
const stateBytes = bytes(state);

/** Counts a message by itself. */
function countOne(key: Uint8Array, first: number) {
  const stored = get(key);
  count(stored === null ? NO_STATE : words(stored), 0, state, 0, first);
  put(key, stateBytes);
  const value = new Uint8Array(key.length + STATE_BYTES);
  value.set(key);
  value.set(stateBytes, key.length);
  send(PORT, { key, value, headers: [], timestamp: null, partition: null });
}

/** What a column of either kind is read as. */
type Entries = Pick<BytesColumn, "ends" | "data">;

/** A column that can be packed. */
interface Packable extends BytesColumn {
  ends: Uint32Array;
}

/** An entry for each message: the state that it has led to, and what it sends. */
interface Counted {
  states: Packable;
  sent: Packable;
}

/** Counts the messages of columns one by one. */
function countEach(keys: Entries, values: Entries) {
  for (let i = 0, keyStart = 0, valueStart = 0; i < keys.ends.length; i++) {
    const first = valueStart < values.ends[i] ? values.data[valueStart] : 0;
    countOne(keys.data.subarray(keyStart, keys.ends[i]), first);
    keyStart = keys.ends[i];
    valueStart = values.ends[i];
  }
}

/**
 * Counts the messages of a call, given what is stored under their keys: the states that they have led to, and what they send.
 * A key that repeats goes on from where it was.
 */
function countAll(keys: Entries, firstOf: (index: number) => number, stored: Entries): Counted {
  const length = keys.ends.length;
  const states = new Uint32Array(length * STATE_WORDS);
  const statesBytes = bytes(states);
  const stateEnds = new Uint32Array(length);
  const sent = new Uint8Array(keys.data.length + length * STATE_BYTES);
  const sentEnds = new Uint32Array(length);
  const storedWords = words(stored.data);
  const places = new Map<string, number>();
  for (let i = 0, keyStart = 0, storedStart = 0, sentEnd = 0; i < length; i++) {
    const key = keys.data.subarray(keyStart, keys.ends[i]);
    const name = Reflect.apply(String.fromCharCode, null, key);
    const place = i * STATE_WORDS;
    const known = places.get(name);
    if (known !== undefined) count(states, known, states, place, firstOf(i));
    else if (storedStart < stored.ends[i]) count(storedWords, storedStart / 4, states, place, firstOf(i));
    else count(NO_STATE, 0, states, place, firstOf(i));
    places.set(name, place);
    stateEnds[i] = (i + 1) * STATE_BYTES;

    sent.set(key, sentEnd);
    sent.set(statesBytes.subarray(4 * place, stateEnds[i]), sentEnd + key.length);
    sentEnds[i] = sentEnd += key.length + STATE_BYTES;
    keyStart = keys.ends[i];
    storedStart = stored.ends[i];
  }
  return {
    states: { ends: stateEnds, data: statesBytes, absent: [] },
    sent: { ends: sentEnds, data: sent, absent: [] },
  };
}

/** The first byte of an entry of a column, by its index; 0 of an empty one. */
function firstIn({ ends, data }: Entries): (index: number) => number {
  return (i) => {
    const start = i === 0 ? 0 : ends[i - 1];
    return start < ends[i] ? data[start] : 0;
  };
}

/** Writes and sends what was counted, under the keys of the messages. */
function write(keys: BytesColumn, { states, sent }: Counted) {
  putMany(keys, states);
  sendMany(PORT, { keys, values: sent, timestamps: [], headers: null }, null);
}

function touchRow({ offset, timestamp, key, value }: Message): number {
  return key.length + firstByte(value) + offset + timestamp;
}

function firstByte(value: Uint8Array): number {
  return value.length > 0 ? value[0] : 0;
}

export const one = {
  touch: touchRow,

  countSingle({ key, value }: Message) {
    countOne(key, firstByte(value));
  },
};

export const rows = {
  touch(messages: Message[]): number {
    let sum = 0;
    for (const message of messages) sum += touchRow(message);
    return sum;
  },

  countSingle(messages: Message[]) {
    for (const { key, value } of messages) countOne(key, firstByte(value));
  },

  countMany(messages: Message[]) {
    const ends = new Uint32Array(messages.length);
    messages.reduce((end, { key }, i) => (ends[i] = end + key.length), 0);
    const data = new Uint8Array(ends.at(-1) ?? 0);
    messages.forEach(({ key }, i) => data.set(key, ends[i] - key.length));
    const keys = { ends, data, absent: [] };
    write(keys, countAll(keys, (i) => firstByte(messages[i].value), getMany(keys)));
  },
};

export const columns = {
  touch({ offsets, messages: { keys, values, timestamps } }: Batch): number {
    let sum = 0;
    for (let i = 0, keyStart = 0, valueStart = 0; i < offsets.length; i++) {
      sum += keys.ends[i] - keyStart + offsets[i] + timestamps[i];
      if (valueStart < values.ends[i]) sum += values.data[valueStart];
      keyStart = keys.ends[i];
      valueStart = values.ends[i];
    }
    return sum;
  },

  countSingle({ messages: { keys, values } }: Batch) {
    countEach(keys, values);
  },

  countMany({ messages: { keys, values } }: Batch) {
    write(keys, countAll(keys, firstIn(values), getMany(keys)));
  },
};

function unpack({ ends, data }: PackedColumn): Entries {
  return { ends: words(ends), data };
}

function pack({ ends, data }: Packable): PackedColumn {
  return { ends: bytes(ends), data, absent: new Uint8Array() };
}

export const packed = {
  touch({ offsets, messages }: PackedBatch): number {
    const keyEnds = words(messages.keys.ends);
    const valueEnds = words(messages.values.ends);
    const values = messages.values.data;
    const offsetWords = words(offsets);
    const timestampWords = words(messages.timestamps);
    let sum = 0;
    for (let i = 0, keyStart = 0, valueStart = 0; i < keyEnds.length; i++) {
      const low = offsetWords[2 * i] + timestampWords[2 * i];
      const high = offsetWords[2 * i + 1] + (timestampWords[2 * i + 1] | 0); // of a signed number
      sum += keyEnds[i] - keyStart + low + high * HIGH;
      if (valueStart < valueEnds[i]) sum += values[valueStart];
      keyStart = keyEnds[i];
      valueStart = valueEnds[i];
    }
    return sum;
  },

  countSingle({ messages: { keys, values } }: PackedBatch) {
    countEach(unpack(keys), unpack(values));
  },

  countMany({ messages: { keys, values } }: PackedBatch) {
    const counted = countAll(unpack(keys), firstIn(unpack(values)), unpack(getManyPacked(keys)));
    putManyPacked(keys, pack(counted.states));
    const sent = { keys, values: pack(counted.sent), timestamps: new Uint8Array(), headers: null };
    sendManyPacked(PORT, sent, null);
  },
};
