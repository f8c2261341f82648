// What componentize-qjs makes of wit/shapes.wit, by hand. Numbers of 64 bits are numbers, which are exact up to 2^53.

// Here every message has a key and a value, and no message has headers.
declare module "wasm-host-benches:shapes/types" {
  export interface BytesColumn {
    ends: ArrayLike<number>;
    data: Uint8Array;
    absent: ArrayLike<number>;
  }

  export interface PackedColumn {
    ends: Uint8Array;
    data: Uint8Array;
    absent: Uint8Array;
  }

  export interface Header {
    name: string;
    value: Uint8Array | null;
  }

  export interface Message {
    offset: number;
    timestamp: number;
    key: Uint8Array;
    value: Uint8Array;
    headers: Header[];
  }

  export interface Outgoing {
    key: Uint8Array | null;
    value: Uint8Array | null;
    headers: Header[];
    timestamp: number | null;
    partition: number | null;
  }

  export interface Messages {
    keys: BytesColumn;
    values: BytesColumn;
    timestamps: ArrayLike<number>;
    headers: null;
  }

  export interface Batch {
    offsets: ArrayLike<number>;
    messages: Messages;
  }

  export interface PackedMessages {
    keys: PackedColumn;
    values: PackedColumn;
    timestamps: Uint8Array;
    headers: null;
  }

  export interface PackedBatch {
    offsets: Uint8Array;
    messages: PackedMessages;
  }
}

declare module "wasm-host-benches:shapes/store" {
  import type {
    BytesColumn,
    Messages,
    Outgoing,
    PackedColumn,
    PackedMessages,
  } from "wasm-host-benches:shapes/types";

  export function get(key: Uint8Array): Uint8Array | null;
  export function put(key: Uint8Array, value: Uint8Array): void;
  export function send(port: string, message: Outgoing): void;
  export function getMany(keys: BytesColumn): BytesColumn;
  export function putMany(keys: BytesColumn, values: BytesColumn): void;
  export function sendMany(port: string, messages: Messages, partitions: ArrayLike<number> | null): void;
  export function getManyPacked(keys: PackedColumn): PackedColumn;
  export function putManyPacked(keys: PackedColumn, values: PackedColumn): void;
  export function sendManyPacked(port: string, messages: PackedMessages, partitions: Uint8Array | null): void;
}
