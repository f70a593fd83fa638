//! Integration tests on real servers: one binary, because it takes long to link.

mod cases {
    pub mod failover;
    pub mod leader;
    pub mod operator;
    pub mod returning;
    mod stand;
}
