//! The integration tests: one binary, a module for each question.

mod checkpoints;
mod cli;
mod components;
mod crash;
mod examples;
mod faults;
mod fixtures;
mod harness;
mod jobs;
mod kill;
mod layers;
mod refusals;
mod state_model;
mod syncs;
