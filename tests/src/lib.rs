//! Conformance tests: the same bodies on every backend and device.
//!
//! The claims are in the test files; here is what they share.
//!
//! * [`devices`]: what there is to run on, and what is skipped and why, said aloud.
//! * [`problem`]: attention problems as data; [`inputs`]: what they are asked about; [`memory`]: how that lies in memory;
//!   [`pass`]: forward and backward on a device.
//! * [`cover`]: problems that cross every pair of options.
//! * [`strategy`]: problems drawn at random.
//! * [`unfused`]: the formulas operation by operation: in f64 what is right, in a storage type how far a plain implementation
//!   is off; [`truth`]: what the library's reference says.
//! * [`compare`]: the rule by which results are good.
//! * [`tiles`]: tiles of scores, and what the emulator counts for them.
//! * [`golden`]: problems from files, expected values included.

pub mod compare;
pub mod cover;
pub mod devices;
pub mod golden;
pub mod inputs;
pub mod memory;
pub mod pass;
pub mod problem;
pub mod strategy;
pub mod tiles;
pub mod truth;
pub mod unfused;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
