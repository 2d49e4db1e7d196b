//! Conformance tests: the same bodies on every backend and device.
//!
//! The claims are in the test files; here is what they share.
//!
//! * [`devices`]: what there is to run on, and what is skipped and why, said aloud.
//! * [`problem`]: attention problems as data, their inputs and how they lie in memory, and one pass over a device.
//! * [`strategy`]: problems drawn at random.
//! * [`truth`]: what is right, in f64; [`unfused`]: how far a plain implementation in the same storage type is off.
//! * [`compare`]: the rule by which results are good.
//! * [`golden`]: problems from files, expected values included.

pub mod compare;
pub mod devices;
pub mod golden;
pub mod memory;
pub mod problem;
pub mod strategy;
pub mod truth;
pub mod unfused;
