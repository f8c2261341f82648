//! The integration tests: one binary, a module for each question.

mod admin;
mod checkpoints;
mod cli;
mod command_line;
mod components;
mod crash;
mod disk;
mod drains;
mod durability;
mod examples;
mod faults;
mod fixtures;
mod harness;
mod inputs;
mod jobs;
mod kill;
mod layers;
mod pinned;
mod project;
mod refusals;
mod retention;
mod state_model;
mod stores;
mod syncs;
