// What componentize-qjs makes of the worlds, by hand: where an option is none it gives `null`, and numbers of 64 bits are
// numbers, which are exact up to 2^53. Those of a batch are packed, and so can be read as `bigint`.

declare module "wasm-host:task/types@0.1.1" {
  export interface BytesColumn {
    ends: Uint8Array;
    data: Uint8Array;
    absent: Uint8Array;
  }

  export interface HeadersColumn {
    ends: Uint8Array;
    names: BytesColumn;
    values: BytesColumn;
  }

  export interface Messages {
    keys: BytesColumn | null;
    values: BytesColumn;
    timestamps: Uint8Array;
    headers: HeadersColumn | null;
  }

  export interface Batch {
    input: number;
    partition: number;
    offsets: Uint8Array;
    messages: Messages;
  }

  export interface Header {
    name: string;
    value: Uint8Array | null;
  }

  export interface Message {
    input: number;
    partition: number;
    offset: number | bigint;
    timestamp: number | bigint;
    key: Uint8Array | null;
    value: Uint8Array | null;
    headers: Header[];
  }

  export interface Outgoing {
    key?: Uint8Array | null;
    value?: Uint8Array | null;
    headers: Header[];
    timestamp?: number | null;
    partition?: number | null;
  }

  export interface Rejection {
    index: number;
    reason: string;
    detail: Uint8Array | null;
  }
}

declare module "wasm-host:task/state@0.1.1" {
  import type { BytesColumn } from "wasm-host:task/types@0.1.1";

  /** The `payload` of the error that `Store.open` throws. */
  export type OpenError = { tag: "no-such-store" } | { tag: "other"; val: string };

  export interface PutOptions {
    ttlMs: number | null;
  }

  export interface Range {
    start: Uint8Array | null;
    end: Uint8Array | null;
  }

  export interface ScanOptions {
    reverse: boolean;
    keysOnly: boolean;
  }

  export interface Entries {
    keys: BytesColumn;
    values: BytesColumn;
  }

  export class Store implements Disposable {
    private constructor();
    static open(name: string): Store;
    get(key: Uint8Array): Uint8Array | null;
    put(key: Uint8Array, value: Uint8Array, options: PutOptions | null): void;
    delete(key: Uint8Array): void;
    increment(key: Uint8Array, by: number): number;
    getMany(keys: BytesColumn): BytesColumn;
    putMany(keys: BytesColumn, values: BytesColumn, options: PutOptions | null): void;
    deleteRange(range: Range): void;
    scan(range: Range, options: ScanOptions): Cursor;
    [Symbol.dispose](): void;
  }

  export class Cursor implements Disposable {
    private constructor();
    next(maxEntries: number, maxBytes: number): Entries;
    [Symbol.dispose](): void;
  }
}

declare module "wasm-host:task/output@0.1.1" {
  import type { Messages, Outgoing } from "wasm-host:task/types@0.1.1";

  export function send(port: string, message: Outgoing): void;
  export function sendMany(port: string, messages: Messages, partitions: Uint8Array | null): void;
}

declare module "wasm-host:task/context@0.1.1" {
  export type InputKind = { tag: "partitioned" } | { tag: "broadcast" } | { tag: "other"; val: string };

  export interface Input {
    port: string;
    kind: InputKind;
  }

  export function job(): string;
  export function stage(): string;
  export function task(): string;
  export function partition(): number;
  export function partitions(): number;
  export function inputs(): Input[];
  export function componentVersion(): string;
  export function nowMs(): number;
  export function requestCheckpoint(): void;
  export function requestStop(reason: string): void;
}

declare module "wasm-host:task/metrics@0.1.1" {
  export function counterAdd(name: string, by: number): void;
  export function gaugeSet(name: string, value: number): void;
  export function histogramRecord(name: string, value: number): void;
}

declare module "wasi:config/store@0.2.0-rc.1" {
  export function get(key: string): string | null;
  export function getAll(): [string, string][];
}

declare module "wasi:logging/logging@0.1.0-draft" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error" | "critical";

  export function log(level: Level, context: string, message: string): void;
}

// The exports. In one that returns a `result`, what is thrown is the `err`.

declare module "wasm-host:task/message-handler@0.1.1" {
  import type { Message } from "wasm-host:task/types@0.1.1";

  export function process(message: Message): void;
}

declare module "wasm-host:task/batch-handler@0.1.1" {
  import type { Batch, Rejection } from "wasm-host:task/types@0.1.1";

  export function process(batch: Batch): Rejection[];
}

declare module "wasm-host:task/lifecycle@0.1.1" {
  export function open(): void;
  export function close(): void;
}

declare module "wasm-host:task/end-of-input@0.1.1" {
  export type Progress = "done" | "again";

  export function onEnd(): Progress;
}

// What QuickJS has, and the library of TypeScript 5 has not, or among the things of browsers only.

declare function atob(text: string): string;
declare function btoa(text: string): string;

interface Uint8Array {
  toBase64(): string;
  toHex(): string;
}

interface Uint8ArrayConstructor {
  fromBase64(text: string): Uint8Array<ArrayBuffer>;
  fromHex(text: string): Uint8Array<ArrayBuffer>;
}
