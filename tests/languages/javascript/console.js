// What prints. QuickJS has no `console`, and a component without `wasi:cli` in its world no standard output.

import { log } from "wasi:logging/logging@0.1.0-draft";

const printer = (level) => (...values) => log(level, "", values.join(" "));

export const console = { log: printer("info"), error: printer("error") };
