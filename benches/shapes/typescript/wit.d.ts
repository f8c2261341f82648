// What componentize-qjs makes of wit/shapes.wit, by hand. Lists of 32-bit numbers come as typed arrays and may go out as such;
// numbers of 64 bits are numbers, which are exact up to 2^53.

declare module "wasm-host-benches:shapes/store" {
  export interface Column {
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

  // Messages have no headers here, but the bindings want to be told.
  export interface Messages {
    keys: Column;
    values: Column;
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

  export function get(key: Uint8Array): Uint8Array | null;
  export function put(key: Uint8Array, value: Uint8Array): void;
  export function send(port: string, message: Outgoing): void;
  export function getMany(keys: Column): Column;
  export function putMany(keys: Column, values: Column): void;
  export function sendMany(port: string, messages: Messages, partitions: ArrayLike<number> | null): void;
  export function getManyPacked(keys: PackedColumn): PackedColumn;
  export function putManyPacked(keys: PackedColumn, values: PackedColumn): void;
  export function sendManyPacked(port: string, messages: PackedMessages, partitions: Uint8Array | null): void;
}
