// The conformance guest, one message a call.

import type * as MessageHandler from "wasm-host:task/message-handler@0.1.1";
import { carryOut } from "./conformance.js";
import { trapping } from "./errors.js";

export { endOfInput, lifecycle } from "./conformance.js";

export const messageHandler: typeof MessageHandler = { process: trapping(carryOut) };
