//! An f32 tile in shared memory.

use cuda_std::mem::{self, SharedAddr};
use flash_attention_geometry::shared::TileLayout;

/// A tile at its place in dynamic shared memory.
#[derive(Clone, Copy)]
pub struct SharedTile {
    base: SharedAddr,
    row_bytes: u32,
}

impl SharedTile {
    /// The tile with this layout, relative to the start of dynamic shared memory.
    #[inline(always)]
    pub fn new(start: SharedAddr, layout: TileLayout) -> Self {
        SharedTile { base: start.offset(layout.offset), row_bytes: layout.row_bytes }
    }

    /// The part of the tile that begins at an element.
    #[inline(always)]
    pub fn shifted(&self, row: u32, column: u32) -> Self {
        SharedTile { base: self.at(row, column), row_bytes: self.row_bytes }
    }

    /// Address of an element.
    #[inline(always)]
    pub fn at(&self, row: u32, column: u32) -> SharedAddr {
        self.base.offset(row * self.row_bytes + column * 4)
    }

    /// Bytes from one row to the next.
    #[inline(always)]
    pub fn row_bytes(&self) -> u32 {
        self.row_bytes
    }

    /// Writes four elements side by side; `column` is a multiple of 4.
    ///
    /// # Safety
    /// The element lies inside the tile, and nobody reads it before a barrier.
    #[inline(always)]
    pub unsafe fn store4(&self, row: u32, column: u32, values: [f32; 4]) {
        // SAFETY: inside the tile; rows and groups of four are 16-byte aligned.
        unsafe { mem::st_shared_v4_f32::<0>(self.at(row, column), values) }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// As for [`SharedTile::store4`].
    #[inline(always)]
    pub unsafe fn store(&self, row: u32, column: u32, value: f32) {
        // SAFETY: inside the tile.
        unsafe { mem::st_shared_f32::<0>(self.at(row, column), value) }
    }
}
