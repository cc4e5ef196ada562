//! What the store promises, tried on a real file. Each test opens a store of its own through the public door.

mod commit;
mod credentials;
mod damage;
pub(crate) mod database;
mod dying;
mod facts;
mod filled;
pub(crate) mod golden;
mod log;
mod moving;
mod nodes;
mod opening;
mod plans;
pub(crate) mod poll;
mod questions;
mod rows;
mod runs;
mod scale;
mod schema;
mod secrets;
mod sharing;
mod support;
mod tables;
