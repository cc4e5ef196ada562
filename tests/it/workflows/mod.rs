//! What the product is for, on real PostgreSQL (primary and replica) and real Redis (two nodes): one file for each kind of run and for what
//! holds or ends one. Each scenario says what Keyfall must say and then asks the servers themselves.

mod adopt;
mod approvals;
mod autonomy;
mod breaker;
mod budget;
mod connections;
mod damage;
mod decommission;
mod emergency;
mod freeze;
mod hands;
mod nodes;
mod register;
mod replicas;
mod rotate;
mod scene;
mod unwind;
mod uptake;
