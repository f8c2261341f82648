// The conformance guest, one message a call.

import { carryOut } from "./conformance.js";
import { trapping } from "./errors.js";

export { endOfInput, lifecycle } from "./conformance.js";

export const messageHandler = { process: trapping(carryOut) };
