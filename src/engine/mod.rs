//! The engine turns what is due into runs and takes each run, step by step, to a proven end.
//!
//! A pass takes no input: timers and people only ring the bell, and what is to be done is read from the store. So the path after a restart
//! is the same path as on any other day.
//!
//! | who                         | does                                                                                  |
//! |-----------------------------|---------------------------------------------------------------------------------------|
//! | `domain::workflow::decide`  | says what a run does next                                                             |
//! | the driver                  | commits the intent, calls the step, commits what came of it                           |
//! | `steps`                     | carry one step out downstream and report; they write nothing to the store             |
//! | the store                   | refuses every write of a node that has lost its lease                                 |
//!
//! The engine knows no connector by name, no SQL, no HTTP and no CLI.

pub mod report;
