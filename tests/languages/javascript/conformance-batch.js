// The conformance guest, many messages a call.

import { messages } from "./columns.js";
import { carryOut, Rejection } from "./conformance.js";
import { trapping } from "./errors.js";

export { endOfInput, lifecycle } from "./conformance.js";

export const batchHandler = {
  process: trapping((batch) => {
    const rejections = [];
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
