//! Every check that CI runs, each runnable alone.

fn main() {}
