//! The guests of the benchmarks: the same counter in both worlds.
