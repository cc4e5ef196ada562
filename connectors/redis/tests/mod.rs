//! Tests of the Redis connector against real servers of their own.

mod config;
mod kit;
mod life;
mod nodes;
mod probe;
mod server;
mod sessions;
mod tls;
