// What prints. QuickJS has no `console`, and a component without `wasi:cli` in its world no standard output.

import { log, type Level } from "wasi:logging/logging@0.1.0-draft";

const printer = (level: Level) => (...values: unknown[]) => log(level, "", values.join(" "));

export const console = { log: printer("info"), error: printer("error") };
