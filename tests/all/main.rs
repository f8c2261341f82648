//! The integration tests: one binary, a module for each question.

mod admin;
mod checkpoints;
mod cli;
mod components;
mod crash;
mod disk;
mod drains;
mod durability;
mod examples;
mod faults;
mod fixtures;
mod harness;
mod jobs;
mod kill;
mod layers;
mod refusals;
mod retention;
mod state_model;
mod syncs;
