//! End-to-end tests: the real binary, real registries, real guests. One binary, a file per theme.
//!
//! `tests/run` installs what they need. They fail, and never skip, where something is missing.

#![allow(
    clippy::disallowed_methods,
    reason = "tests read the environment that they were started in"
)]

mod harness;

mod attacks;
mod crash;
mod daemon;
mod demo;
mod docker;
mod durability;
mod examples;
mod grants;
mod guests;
mod images;
mod isolation;
mod layouts;
mod limits;
mod network;
mod pods;
mod pull;
mod rates;
mod refusals;
mod rings;
mod shim;
mod shim_processes;
mod sources;
mod terminals;
mod unruly;
mod workspace;
