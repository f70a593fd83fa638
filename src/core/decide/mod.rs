//! Every decision of the product, pure.
