// What both word counts share: what a word is, what is sent and stored, and what happens at the end of the text.

import type * as EndOfInput from "wasm-host:task/end-of-input@0.1.1";
import { send } from "wasm-host:task/output@0.1.1";
import { Store } from "wasm-host:task/state@0.1.1";
import { entries, present } from "./columns.js";
import { trapping } from "./errors.js";
import * as utf8 from "./utf8.js";

/** How many words are sent at the end. */
const TOP = 20;

let store: Store | undefined;

/** The store of the counts. A module runs when the component is built, and so a store can only be opened in a call. */
export function counts(): Store {
  return (store ??= Store.open("counts"));
}

/** The words of a line. It need not be UTF-8: a word is ASCII, and every other byte ends it. */
export function words(line: Uint8Array): string[] {
  return utf8.characters(line).toLowerCase().match(/[a-z](?:[a-z']*[a-z])?/g) ?? [];
}

/** A count as it is stored. */
export function stored(count: number): Uint8Array {
  return utf8.encode(String(count));
}

/** The count of what is stored; 0 for what is absent. */
export function read(bytes: Uint8Array | null): number {
  return bytes === null ? 0 : Number(utf8.decode(bytes));
}

/** The value of the message that says how often a word has been seen. */
export function counted(word: string, count: number): Uint8Array {
  return utf8.encode(JSON.stringify({ word, count }));
}

export const endOfInput: typeof EndOfInput = {
  onEnd: trapping(() => {
    const found: { key: Uint8Array; count: number }[] = [];
    using cursor = counts().scan({ start: null, end: null }, { reverse: false, keysOnly: false });
    for (;;) {
      const page = cursor.next(1000, 1 << 20);
      if (page.keys.ends.length === 0) break;
      const values = entries(page.values).map(read);
      present(page.keys).forEach((key, index) => found.push({ key, count: values[index] }));
    }
    // The sort is stable, and a scan goes by the alphabet: so do words that are equally frequent.
    found.sort((one, other) => other.count - one.count);
    for (const { key, count } of found.slice(0, TOP)) {
      send("top", { key, value: counted(utf8.decode(key), count), headers: [] });
    }
    return "done";
  }),
};
