// Text and bytes. QuickJS has no TextEncoder and no TextDecoder, but all that these lines call is native code, and so ten
// times as fast as a loop.

/** The UTF-8 of a text. What cannot be in a text, half of a surrogate pair, is a `URIError`. */
export function encode(text) {
  return Uint8Array.fromBase64(btoa(unescape(encodeURIComponent(text))));
}

/** The text of UTF-8. What is not UTF-8 is a `URIError`. */
export function decode(bytes) {
  return decodeURIComponent(escape(characters(bytes)));
}

/** Any bytes as text, a character for each byte. */
export function characters(bytes) {
  return atob(bytes.toBase64());
}
