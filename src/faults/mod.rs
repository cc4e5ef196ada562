//! What can go wrong, tried on the real engine, the real SQL and the real steps: each folder is one harness. None of this is in the program
//! that is shipped. A harness knows the parts that it breaks; no part knows that it is being broken.

pub(crate) mod between;
mod clocks;
mod disk;
mod mass;
mod matrix;
pub(crate) mod oracle;
mod quiet;
mod sim;
