//! Integration tests on real servers: one binary, because it takes long to link.

mod cases {
    mod adapters;
    mod failover;
    mod leader;
    mod operator;
    mod returning;
    mod stand;
}
