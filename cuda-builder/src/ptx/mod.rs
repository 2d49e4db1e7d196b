//! What is done to the compiler's PTX, as text.

pub mod lint;
pub mod markers;
pub mod scan;
pub mod split;
