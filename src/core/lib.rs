//! The pure core of Conclave.
