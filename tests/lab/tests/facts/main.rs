//! What the argument of SAFETY.md rests on, seen on real servers. Each test prints what it measured
//! (`-- --nocapture`).

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

mod coverage;
