//! Conformance tests: the same bodies on every backend and device
