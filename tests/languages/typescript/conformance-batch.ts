// The conformance guest, many messages a call.

import type * as BatchHandler from "wasm-host:task/batch-handler@0.1.1";
import type * as types from "wasm-host:task/types@0.1.1";
import { messages } from "./columns.js";
import { carryOut, Rejection } from "./conformance.js";
import { trapping } from "./errors.js";

export { endOfInput, lifecycle } from "./conformance.js";

export const batchHandler: typeof BatchHandler = {
  process: trapping((batch) => {
    const rejections: types.Rejection[] = [];
    messages(batch).forEach((message, index) => {
      try {
        carryOut(message);
      } catch (error) {
        if (!(error instanceof Rejection)) throw error;
        rejections.push({ index, reason: error.message, detail: error.detail });
      }
    });
    return rejections;
  }),
};
