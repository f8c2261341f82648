//! Guests for tests: one example for each behaviour, built for wasm32-wasip2.
