// How often each word of a text occurs, one line a call.

import type * as MessageHandler from "wasm-host:task/message-handler@0.1.1";
import { send } from "wasm-host:task/output@0.1.1";
import { trapping } from "./errors.js";
import * as utf8 from "./utf8.js";
import { counted, counts, read, stored, words } from "./word-count.js";

export { endOfInput } from "./word-count.js";

export const messageHandler: typeof MessageHandler = {
  process: trapping(({ value: line }) => {
    if (line === null) return;
    for (const word of words(line)) {
      const key = utf8.encode(word);
      const count = read(counts().get(key)) + 1;
      counts().put(key, stored(count), null);
      send("counts", { key, value: counted(word, count), headers: [] });
    }
  }),
};
