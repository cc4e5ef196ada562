//! The whole binary, as its users run it. The only integration program: add a module here, not a file beside it.
#![cfg(test)]

mod harness;

mod api;
mod bad_input;
mod elsewhere;
mod kek;
mod kills;
mod lives;
mod moving;
mod nodes;
mod offline;
mod outputs;
mod roles;
mod serving;
mod streams;
mod tls;
mod workflows;
