//! The whole binary, as its users run it. The only integration program: add a module here, not a file beside it.
#![cfg(test)]

mod harness;

mod api;
mod bad_input;
mod elsewhere;
mod initialising;
mod kek;
mod kills;
mod lives;
mod moving;
mod moving_databases;
mod nodes;
mod offline;
mod outputs;
mod rewound;
mod roles;
mod serving;
mod store_tls;
mod streams;
mod tls;
mod workflows;
