// Columns, in which many byte strings cross the boundary at once. Their numbers are packed: end to end, little-endian, which is
// how typed arrays have them in WebAssembly.

import type { Batch, BytesColumn, Header, HeadersColumn, Message } from "wasm-host:task/types@0.1.1";
import * as utf8 from "./utf8.js";

/** Byte strings as a column; `null` is an absent one. */
export function column(entries: (Uint8Array | null)[]): BytesColumn {
  const ends = new Uint32Array(entries.length);
  const absent: number[] = [];
  let end = 0;
  entries.forEach((entry, index) => {
    if (entry === null) absent.push(index);
    else end += entry.length;
    ends[index] = end;
  });
  const data = new Uint8Array(end);
  entries.forEach((entry, index) => entry !== null && data.set(entry, ends[index] - entry.length));
  return { ends: packed(ends), data, absent: packed(Uint32Array.from(absent)) };
}

/** The byte strings of a column; `null` for an absent one. They are views of its data, not copies. */
export function entries(column: BytesColumn): (Uint8Array | null)[] {
  const { data } = column;
  const ends = unpacked(Uint32Array, column.ends);
  const missing = new Set(unpacked(Uint32Array, column.absent));
  return Array.from(ends, (end, index) => (missing.has(index) ? null : data.subarray(ends[index - 1] ?? 0, end)));
}

/** The byte strings of a column of which none may be absent: of keys, and of names. */
export function present(column: BytesColumn): Uint8Array[] {
  return entries(column) as Uint8Array[];
}

/** The headers of many messages, a list for each message, as columns; `null` if there are none at all. */
export function headersColumn(lists: Header[][]): HeadersColumn | null {
  const headers = lists.flat();
  if (headers.length === 0) return null;
  let end = 0;
  return {
    ends: packed(Uint32Array.from(lists, (list) => (end += list.length))),
    names: column(headers.map(({ name }) => utf8.encode(name))),
    values: column(headers.map(({ value }) => value)),
  };
}

/** The messages of a batch, as a message handler gets them. */
export function messages({ input, partition, offsets, messages }: Batch): Message[] {
  const offset = unpacked(BigUint64Array, offsets);
  const timestamp = unpacked(BigInt64Array, messages.timestamps);
  const keys = messages.keys && entries(messages.keys);
  const headers = messages.headers && headerLists(messages.headers);
  return entries(messages.values).map((value, index) => ({
    input,
    partition,
    offset: offset[index],
    timestamp: timestamp[index],
    key: keys ? keys[index] : null,
    value,
    headers: headers ? headers[index] : [],
  }));
}

function headerLists({ ends, names, values }: HeadersColumn): Header[][] {
  const nameList = present(names).map(utf8.decode);
  const headers = entries(values).map((value, index) => ({ name: nameList[index], value }));
  const places = unpacked(Uint32Array, ends);
  return Array.from(places, (end, index) => headers.slice(places[index - 1] ?? 0, end));
}

/** The bytes of a typed array. */
export function packed(numbers: Uint32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** Packed numbers as a typed array. A copy, because they may lie where such an array cannot. */
function unpacked<T>(Type: new (buffer: ArrayBuffer) => T, bytes: Uint8Array): T {
  return new Type(bytes.slice().buffer);
}
