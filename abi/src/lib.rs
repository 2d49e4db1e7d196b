//! The contract of flash-attention's host and device code: parameter structs, types, tile configurations, kernel names
