//! One integration binary, as each links everything anew.

mod cases {
    mod adapters;
}
