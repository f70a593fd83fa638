//! Every decision of the product, pure: values in, values out. Start at [`tick`].

pub mod view;

pub use view::{ClusterView, Move, StepOrder, View, Wish};
