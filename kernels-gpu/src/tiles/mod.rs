//! Nouns: fragments in registers, tiles in shared and global memory, and the products of two of them.

pub mod fragment;
pub mod layout;
pub mod mma_fragment;
pub mod mma_product;
pub mod notes;
pub mod operand;
pub mod packed;
pub mod product;
pub mod shared_tile;
pub mod stage;
pub mod swizzled;
