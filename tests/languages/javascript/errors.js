// Errors in an export that returns a `result`. The bindings return whatever is thrown in one as its `err`, a mistake in the
// program too: it would reject message after message, and its stack would be lost.

/** Thrown to return `err` with a reason. */
export class Err extends Error {
  constructor(reason) {
    super(reason);
    this.payload = reason;
  }
}

/** An export of which only an `Err` becomes an `err`. Every other error is a trap, with its message and its stack. */
export function trapping(call) {
  return (...parameters) => {
    try {
      return call(...parameters);
    } catch (error) {
      if (error instanceof Err) throw error;
      // Of what is thrown the bindings return the `payload`. What is thrown in there they cannot return.
      throw { get payload() { throw error; } };
    }
  };
}
