// How often each word of a text occurs, many lines a call.

import { sendMany } from "wasm-host:task/output@0.1.1";
import { column, entries } from "./columns.js";
import { trapping } from "./errors.js";
import * as utf8 from "./utf8.js";
import { counted, counts, read, stored, words } from "./word-count.js";

export { endOfInput } from "./word-count.js";

export const batchHandler = {
  process: trapping(({ messages }) => {
    const found = entries(messages.values).flatMap((line) => (line === null ? [] : words(line)));

    // However many words there are: one read, one write, one send.
    const distinct = [...new Set(found)];
    const keys = column(distinct.map(utf8.encode));
    const before = entries(counts().getMany(keys)).map(read);
    const now = new Map(distinct.map((word, index) => [word, before[index]]));

    const values = found.map((word) => {
      const count = now.get(word) + 1;
      now.set(word, count);
      return counted(word, count);
    });
    counts().putMany(keys, column([...now.values()].map(stored)), null);
    sendMany("counts", {
      keys: column(found.map(utf8.encode)),
      values: column(values),
      timestamps: new Uint8Array(),
      headers: null,
    }, null);
    return [];
  }),
};
