//! Global to shared memory in two steps: fetch into registers early, commit to shared memory when the place is free.

use super::operand::Operand;
use super::shared_tile::SharedTile;
use crate::config::KernelConfig;
use crate::element::Element;
use core::marker::PhantomData;
use cuda_std::{hint, mem};
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::staging::Piece;

/// 16-byte pieces that one thread carries at most.
const MAX_PIECES: usize = 8;

/// A rectangle of an operand that the threads of a block carry together.
pub trait Rectangle {
    /// Storage type of the operand.
    type Element: Element;
    /// Rows of the rectangle.
    const ROWS: u32;
    /// Columns of the rectangle.
    const COLUMNS: u32;
    /// Threads of the block.
    const THREADS: u32;
}

macro_rules! rectangle {
    ($(#[$doc:meta])* $name:ident, $c:ident, $rows:expr, $columns:expr) => {
        $(#[$doc])*
        pub struct $name<C>(PhantomData<C>);

        impl<$c: KernelConfig> Rectangle for $name<$c> {
            type Element = $c::Element;
            const ROWS: u32 = $rows;
            const COLUMNS: u32 = $columns;
            const THREADS: u32 = $c::TILE.threads;
        }
    };
}

rectangle!(
    /// The block's own rows, one slice of their columns.
    RowSlice, C, C::BLOCK_ROWS, C::TILE.slice
);
rectangle!(
    /// A block of the streamed operand, one slice of its columns.
    ColumnSlice, C, BLOCK_COLUMNS, C::TILE.slice
);
rectangle!(
    /// Some rows of a block of the streamed operand, all columns.
    Slab, C, C::TILE.slab, C::TILE.head_dim
);

/// A rectangle on its way to shared memory, where it arrives as f32.
///
/// Rows and columns outside the operand arrive as 0. Where the operand is not aligned to 16 bytes nothing is fetched
/// early, and `commit` copies element by element.
///
/// Both steps hide the thread's index from the optimiser: it would otherwise compute the places of all pieces before the
/// loops and keep them in registers, which the products need.
pub struct Stage<R> {
    pieces: [[u32; 4]; MAX_PIECES],
    rectangle: PhantomData<R>,
}

impl<R: Rectangle> Stage<R> {
    const WIDTH: u32 = R::Element::PER_PIECE;
    const PIECES: usize = {
        let pieces = Piece::count(R::ROWS, R::COLUMNS, Self::WIDTH);
        assert!(pieces.is_multiple_of(R::THREADS));
        assert!((pieces / R::THREADS) as usize <= MAX_PIECES);
        (pieces / R::THREADS) as usize
    };

    /// Starts to load the rectangle whose first element is (`row`, `column`).
    #[inline(always)]
    pub fn fetch(operand: &Operand<R::Element>, thread: u32, row: u32, column: u32) -> Self {
        let mut pieces = [[0; 4]; MAX_PIECES];
        let thread = hint::opaque(thread);
        if operand.aligned {
            for p in 0..Self::PIECES {
                let piece = Piece::new(thread + p as u32 * R::THREADS, R::ROWS, Self::WIDTH);
                let (row, column) = (row + piece.row, column + piece.column);
                if operand.contains(row, column) {
                    // SAFETY: inside, and aligned rows are made of whole 16-byte pieces.
                    pieces[p] = unsafe { mem::ld_global_nc_v4_u32::<0>(operand.at(row, column)) };
                }
            }
        }
        Stage { pieces, rectangle: PhantomData }
    }

    /// Writes the rectangle to the tile. `row` and `column` as in [`Stage::fetch`].
    ///
    /// # Safety
    /// The tile holds the rectangle, and nobody reads or writes them until the next barrier.
    #[inline(always)]
    pub unsafe fn commit(
        &self,
        operand: &Operand<R::Element>,
        thread: u32,
        row: u32,
        column: u32,
        tile: SharedTile,
    ) {
        let thread = hint::opaque(thread);
        if operand.aligned {
            for p in 0..Self::PIECES {
                let piece = Piece::new(thread + p as u32 * R::THREADS, R::ROWS, Self::WIDTH);
                for quarter in 0..(Self::WIDTH / 4) as usize {
                    let values = R::Element::widen(self.pieces[p], quarter);
                    // SAFETY: pieces lie inside the rectangle.
                    unsafe { tile.store4(piece.row, piece.column + 4 * quarter as u32, values) }
                }
            }
        } else {
            let mut index = thread;
            while index < R::ROWS * R::COLUMNS {
                let (r, c) = (index / R::COLUMNS, index % R::COLUMNS);
                let value = if operand.contains(row + r, column + c) {
                    // SAFETY: inside the operand.
                    unsafe { R::Element::load(operand.at(row + r, column + c)) }
                } else {
                    0.0
                };
                // SAFETY: inside the rectangle.
                unsafe { tile.store(r, c, value) }
                index += R::THREADS;
            }
        }
    }
}
