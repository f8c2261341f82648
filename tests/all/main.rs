//! The integration tests: one binary, a module for each question.

mod state_model;
