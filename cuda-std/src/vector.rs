//! Small vectors of `u32` for positions in a block and a grid, named as Rust-CUDA's (glam's) are.

/// Two unsigned coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UVec2 {
    /// First coordinate.
    pub x: u32,
    /// Second coordinate.
    pub y: u32,
}

impl UVec2 {
    /// The vector `(x, y)`.
    #[inline(always)]
    pub const fn new(x: u32, y: u32) -> Self {
        Self { x, y }
    }
}

/// Three unsigned coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UVec3 {
    /// First coordinate.
    pub x: u32,
    /// Second coordinate.
    pub y: u32,
    /// Third coordinate.
    pub z: u32,
}

impl UVec3 {
    /// The vector `(x, y, z)`.
    #[inline(always)]
    pub const fn new(x: u32, y: u32, z: u32) -> Self {
        Self { x, y, z }
    }
}
