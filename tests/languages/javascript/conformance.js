// The conformance guest: what messages tell it to do, and the exports that are the same for both handlers.

import * as context from "wasm-host:task/context@0.1.1";
import * as metrics from "wasm-host:task/metrics@0.1.1";
import { send, sendMany } from "wasm-host:task/output@0.1.1";
import { Store } from "wasm-host:task/state@0.1.1";
import * as config from "wasi:config/store@0.2.0-rc.1";
import { log } from "wasi:logging/logging@0.1.0-draft";
import { column, entries, headersColumn, packed } from "./columns.js";
import { console } from "./console.js";
import { Err, trapping } from "./errors.js";
import * as utf8 from "./utf8.js";

/** Thrown by the command `reject`. For the message handler it is an `err`. */
export class Rejection extends Err {
  constructor(reason, detail) {
    super(reason);
    this.detail = detail;
  }
}

/** Carries out the commands of a message, and sends their results. */
export function carryOut(message) {
  const results = script(message.value).map((command) => {
    const [name, ...words] = command.split(" ");
    if (!Object.hasOwn(commands, name)) throw new Error(`no such command: ${name}`);
    return commands[name](words, message) ?? name;
  });
  report(results.join("; "));
}

function report(result) {
  send("results", { value: utf8.encode(result), headers: [] });
}

/** The commands of a value. */
function script(value) {
  if (value == null || value.length === 0) return ["see"];
  const end = value.indexOf(0x0a);
  const text = utf8.decode(end < 0 ? value : value.subarray(0, end));
  return text.split(";").map((command) => command.trim());
}

// What each command does. It returns its result, or nothing if that is its name.
const commands = {
  see(_, { input, partition, offset, timestamp, key, value, headers }) {
    const shown = headers.map(({ name, value }) => `${name}=${show(value)}`).join(",") || "-";
    return `see input=${input} partition=${partition} offset=${offset} timestamp=${timestamp}`
      + ` key=${show(key)} value=${show(value)} headers=${shown}`;
  },
  context() {
    const inputs = context.inputs().map(({ port, kind }) => `${port}:${kind.tag}`).join(",");
    return `context job=${context.job()} stage=${context.stage()} task=${context.task()}`
      + ` partition=${context.partition()} partitions=${context.partitions()}`
      + ` inputs=${inputs} version=${context.componentVersion().length}`;
  },
  now() {
    const now = context.nowMs();
    return now === context.nowMs() && now > 1600000000000 ? "now same" : "now differs";
  },

  open([name]) {
    try {
      Store.open(name)[Symbol.dispose]();
      return "open ok";
    } catch (error) {
      return `open ${error.payload.tag}`;
    }
  },
  get([name, key]) {
    return `get ${show(store(name).get(bytes(key)))}`;
  },
  put([name, key, value]) {
    store(name).put(bytes(key), bytes(value), null);
  },
  "put-options"([name, key, value]) {
    store(name).put(bytes(key), bytes(value), { ttlMs: null });
    return "put";
  },
  delete([name, key]) {
    store(name).delete(bytes(key));
  },
  increment([name, key, by]) {
    return `increment ${store(name).increment(bytes(key), number(by))}`;
  },
  "get-many"([name, ...keys]) {
    const values = entries(store(name).getMany(column(keys.map(bytes))));
    return ["get-many", ...values.map(show)].join(" ");
  },
  "put-many"([name, ...given]) {
    const pairs = given.map(pair);
    const keys = column(pairs.map(([key]) => bytes(key)));
    store(name).putMany(keys, column(pairs.map(([, value]) => perhapsBytes(value))), null);
  },
  "delete-range"([name, from, to]) {
    store(name).deleteRange({ start: perhapsBytes(from), end: perhapsBytes(to) });
  },
  scan([name, from, to, order, what, count, size]) {
    using cursor = scan(name, from, to, order, what);
    const pages = [];
    do pages.push(page(cursor, count, size));
    while (pages.at(-1).length > 0);
    return ["scan", ...pages.flat()].join(" ");
  },

  cursor([cursor, name, from, to, order, what]) {
    const older = cursors.get(cursor);
    cursors.set(cursor, scan(name, from, to, order, what));
    older?.[Symbol.dispose]();
  },
  next([name, count, size]) {
    return ["next", ...page(kept(name), count, size)].join(" ");
  },
  drop([name]) {
    kept(name)[Symbol.dispose]();
    cursors.delete(name);
  },

  send([port, key, value, timestamp, partition, ...headers]) {
    send(port, {
      key: perhapsBytes(key),
      value: perhapsBytes(value),
      headers: headers.map(header),
      timestamp: perhaps(number, timestamp),
      partition: perhaps(u32, partition),
    });
  },
  "send-many"([port, timestamps, partitions, ...rows]) {
    const messages = rows.map((row) => {
      const [entry, ...headers] = row.split(",");
      const [key, value] = pair(entry).map(perhapsBytes);
      return { key, value, headers: headers.map(header) };
    });
    sendMany(port, {
      keys: messages.some(({ key }) => key !== null) ? column(messages.map(({ key }) => key)) : null,
      values: column(messages.map(({ value }) => value)),
      timestamps: packed(BigInt64Array.from(list(timestamps) ?? [], BigInt)),
      headers: headersColumn(messages.map(({ headers }) => headers)),
    }, perhaps(packedPartitions, partitions));
  },

  err([reason]) {
    throw new Err(text(reason));
  },
  reject([reason, detail]) {
    throw new Rejection(text(reason), perhapsBytes(detail));
  },
  trap([message]) {
    throw new Error(text(message));
  },

  log([level, about, message]) {
    log(level, text(about), text(message));
  },
  print([line]) {
    console.log(text(line));
    console.error(text(line));
  },
  counter([name, by]) {
    metrics.counterAdd(name, number(by));
  },
  gauge([name, value]) {
    metrics.gaugeSet(name, number(value));
  },
  histogram([name, value]) {
    metrics.histogramRecord(name, number(value));
  },
  config([name]) {
    return `config ${config.get(name) ?? "~"}`;
  },
  "config-all"() {
    const all = config.getAll().map(([name, value]) => `${name}=${value}`);
    return `config-all ${all.sort().join(",")}`;
  },
  checkpoint() {
    context.requestCheckpoint();
  },
  stop([reason]) {
    context.requestStop(text(reason));
  },
  opened() {
    return `opened ${opened}`;
  },
};

// What is kept between calls. A module runs when the component is built, so that stores are opened in calls only.
const stores = new Map();
const cursors = new Map();
let opened = 0;
let ends = 0;

export const lifecycle = {
  open: trapping(() => {
    opened += 1;
    const reason = store("a").get(Uint8Array.of(0));
    log("info", "lifecycle", "opened");
    if (reason != null) throw new Err(utf8.decode(reason));
  }),
  close() {
    log("info", "lifecycle", "closed");
  },
};

export const endOfInput = {
  onEnd: trapping(() => {
    ends += 1;
    if (ends > 2) throw new Err("a third call");
    report(ends === 1 ? "end again" : "end done");
    return ends === 1 ? "again" : "done";
  }),
};

function store(name) {
  let store = stores.get(name);
  if (store === undefined) stores.set(name, (store = open(name)));
  return store;
}

function open(name) {
  try {
    return Store.open(name);
  } catch (error) {
    throw new Error(`store ${name} does not open: ${error.payload.tag}`);
  }
}

function scan(name, from, to, order, what) {
  return store(name).scan(
    { start: perhapsBytes(from), end: perhapsBytes(to) },
    { reverse: oneOf("up", "down", order), keysOnly: oneOf("entries", "keys", what) },
  );
}

function kept(name) {
  const cursor = cursors.get(name);
  if (cursor === undefined) throw new Error(`no cursor is named ${name}`);
  return cursor;
}

/** The next entries of a cursor, as results show them. */
function page(cursor, count, size) {
  const { keys, values } = cursor.next(u32(count), u32(size));
  const shown = entries(values).map(show);
  return entries(keys).map((key, index) => (shown.length > 0 ? `${show(key)}=${shown[index]}` : show(key)));
}

/** Bytes as results show them. */
function show(bytes) {
  if (bytes == null) return "~";
  if (bytes.length <= 64) return bytes.toHex() || ".";
  const sum = bytes.reduce((sum, byte) => sum + byte, 0);
  return `#${bytes.length}:${sum}:${bytes.subarray(0, 4).toHex()}:${bytes.subarray(-4).toHex()}`;
}

// How words are read.

function bytes(word) {
  if (word === ".") return new Uint8Array();
  const repeated = /^(\d+)x([0-9a-f]{2})$/.exec(word);
  if (repeated) return new Uint8Array(Number(repeated[1])).fill(parseInt(repeated[2], 16));
  if (!/^[0-9a-f]+$/.test(word)) throw new Error(`not bytes: ${word}`);
  return Uint8Array.fromHex(word);
}

function perhaps(read, word) {
  return word === "~" ? null : read(word);
}

function perhapsBytes(word) {
  return perhaps(bytes, word);
}

function number(word) {
  if (!/^-?\d+$/.test(word)) throw new Error(`not a number: ${word}`);
  return Number(word);
}

/** A number for a `u32`. As a signed one, because the bindings cut a larger one to 2^31 - 1. */
function u32(word) {
  return number(word) | 0;
}

function packedPartitions(word) {
  return packed(Uint32Array.from(word.split(","), number));
}

function list(word) {
  return word === "~" ? null : word.split(",");
}

/** Whether a word is the second of the two that it can be. */
function oneOf(first, second, word) {
  if (word !== first && word !== second) throw new Error(`neither ${first} nor ${second}: ${word}`);
  return word === second;
}

function text(word) {
  if (word === undefined) throw new Error("a word is missing");
  return word.replaceAll("_", " ");
}

/** The two sides of `LEFT=RIGHT`. */
function pair(word) {
  const at = word.indexOf("=");
  if (at < 0) throw new Error(`without an equals sign: ${word}`);
  return [word.slice(0, at), word.slice(at + 1)];
}

function header(word) {
  const [name, value] = pair(word);
  return { name: text(name), value: perhapsBytes(value) };
}
