//! Integration tests on real servers: one binary, because it takes long to link.

// Real servers take real time: here the clock is what is waited for.
#![allow(clippy::disallowed_methods)]

mod cases {
    mod adapters;
    mod addresses;
    mod candidate;
    mod clusters;
    mod failover;
    mod hooks;
    mod leader;
    mod local;
    mod mariadb;
    mod mistakes;
    mod modes;
    mod node;
    mod operator;
    mod quorum;
    mod rescue;
    mod returning;
    mod secrets;
    mod stand;
    mod stopped;
    mod switchover;
    mod turnstile;
}
