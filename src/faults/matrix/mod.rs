//! Every run disturbed at every place: the four-test template of each workflow on each connector, and the crash matrix. The engine, its steps, the
//! registry of connectors and the store are the real ones; hands between them do what processes, networks and providers do on a bad day.

mod bench;
mod cells;
mod connector;
mod database;
mod fault;
mod flavour;
mod hand;
mod play;
mod runner;
mod scene;
mod servers;
mod steps;
mod store;
#[cfg(test)]
mod template;
mod tests;
mod time;
mod truth;
mod watch;
