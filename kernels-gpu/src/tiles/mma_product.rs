//! The products of attention, forward and backward, on tensor cores.

use super::mma_fragment::MmaTiles;
use super::swizzled::{LanePlace, SwizzledTile};
use crate::element::HalfElement;
use cuda_std::mem;

/// A warp's 16 rows and 16 columns of the left operand.
pub type Left = [u32; 4];

/// 16-term steps of the longest sum over rows that are kept: 256 columns.
const MAX_DEPTH: usize = 16;

/// A warp's rows of the left operand: their place in shared memory, and the first steps of them in registers.
#[derive(Clone, Copy)]
pub struct LeftRows {
    place: LanePlace,
    /// Steps in registers: a constant.
    steps: usize,
    kept: [[Left; 2]; MAX_DEPTH],
}

impl LeftRows {
    /// Rows of which nothing is in registers; `place` is the lane's in a tile.
    #[inline(always)]
    pub fn new(place: LanePlace) -> Self {
        LeftRows { place, steps: 0, kept: [[[0; 4]; 2]; MAX_DEPTH] }
    }

    /// The same rows, of a tile of `COLUMNS` columns, with `steps` steps of a product in registers.
    ///
    /// # Safety
    /// As [`of_rows`].
    #[inline(always)]
    pub unsafe fn keep<const COLUMNS: u32>(mut self, shape: Shape, steps: usize) -> Self {
        for k in 0..steps {
            // SAFETY: the caller's.
            self.kept[k] = unsafe { self.load::<COLUMNS>(shape, k) };
        }
        LeftRows { steps, ..self }
    }

    /// Loads those of step `k`.
    ///
    /// # Safety
    /// As [`of_rows`].
    #[inline(always)]
    unsafe fn load<const COLUMNS: u32>(&self, shape: Shape, k: usize) -> [Left; 2] {
        let mut a: [Left; 2] = [[0; 4]; 2];
        for m in 0..shape.rows {
            // SAFETY: the caller's.
            a[m] = unsafe { mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(self.place, 16 * m, k)) };
        }
        a
    }
}

/// Tiles of a product: constants, so that every loop is unrolled.
#[derive(Clone, Copy)]
pub struct Shape {
    /// 16-row tiles of a warp.
    pub rows: usize,
    /// 8-column tiles of the result.
    pub columns: usize,
    /// 16-term steps of the sum.
    pub depth: usize,
}

/// Adds the products of a warp's rows `a` and one pair of the right operand's column tiles.
///
/// # Safety
/// All lanes of the warp execute it together.
#[inline(always)]
unsafe fn add_pair<E: HalfElement>(
    shape: Shape,
    sums: &mut MmaTiles,
    a: &[Left; 2],
    pair: usize,
    b: [u32; 4],
) {
    for m in 0..shape.rows {
        let at = m * shape.columns + 2 * pair;
        // SAFETY: the caller's.
        unsafe {
            E::multiply(&mut sums.tiles[at], a[m], [b[0], b[1]]);
            E::multiply(&mut sums.tiles[at + 1], a[m], [b[2], b[3]]);
        }
    }
}

/// The same for all pairs of a step of 16 terms, which are rows of the right operand from `row` on; of its 16-column pairs only
/// every `stride`-th is taken.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
unsafe fn add_step<E: HalfElement, const RIGHT: u32>(
    shape: Shape,
    sums: &mut MmaTiles,
    a: &[Left; 2],
    right: LanePlace,
    [row, stride]: [usize; 2],
) {
    for pair in 0..shape.columns / 2 {
        let part = SwizzledTile::<RIGHT>::part(right, row, pair * stride);
        // SAFETY: the caller's.
        unsafe { add_pair::<E>(shape, sums, a, pair, mem::ldmatrix_x4_trans::<0>(part)) }
    }
}

/// `a * bᵀ`, where the terms lie side by side in the rows of both: of the warp's rows of a tile of `COLUMNS` columns, and of
/// another such tile, in which `right` is the lane's place.
///
/// # Safety
/// Both have been written before a barrier; all lanes of the warp execute it together.
#[inline(always)]
pub unsafe fn of_rows<E: HalfElement, const COLUMNS: u32>(
    shape: Shape,
    left: &LeftRows,
    right: LanePlace,
) -> MmaTiles {
    let mut result = MmaTiles::zero();
    for k in 0..shape.depth {
        // SAFETY: the caller's.
        let a = if k < left.steps { left.kept[k] } else { unsafe { left.load::<COLUMNS>(shape, k) } };
        for pair in 0..shape.columns / 2 {
            // SAFETY: the caller's.
            let b = unsafe { mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(right, 16 * pair, k)) };
            // SAFETY: the caller's.
            unsafe { add_pair::<E>(shape, &mut result, &a, pair, b) }
        }
    }
    result
}

/// `output += weights * values`, where the terms are the rows of `values`, a lane's place in a tile of `COLUMNS` columns. The
/// weights are rounded to storage in the registers where they lie.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
pub unsafe fn add_weighted<E: HalfElement, const COLUMNS: u32>(
    shape: Shape,
    output: &mut MmaTiles,
    weights: &MmaTiles,
    values: LanePlace,
) {
    for k in 0..shape.depth {
        let mut a: [Left; 2] = [[0; 4]; 2];
        for m in 0..shape.rows {
            let first = 2 * (m * shape.depth + k);
            let (low, high) = (weights.tiles[first], weights.tiles[first + 1]);
            a[m] = [
                E::pack(low[0], low[1]),
                E::pack(low[2], low[3]),
                E::pack(high[0], high[1]),
                E::pack(high[2], high[3]),
            ];
        }
        // SAFETY: the caller's.
        unsafe { add_step::<E, COLUMNS>(shape, output, &a, values, [16 * k, 1]) }
    }
}

/// `aᵀ * b`, where the terms are the rows of both. `left` and `right` are the lane's places in tiles of `LEFT` and `RIGHT` columns;
/// of the right one only every `stride`-th 16 columns are taken.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
pub unsafe fn of_columns<E: HalfElement, const LEFT: u32, const RIGHT: u32>(
    shape: Shape,
    left: LanePlace,
    right: LanePlace,
    stride: usize,
) -> MmaTiles {
    let mut result = MmaTiles::zero();
    for k in 0..shape.depth {
        let mut a: [Left; 2] = [[0; 4]; 2];
        for m in 0..shape.rows {
            // SAFETY: the caller's.
            a[m] = unsafe { mem::ldmatrix_x4_trans::<0>(SwizzledTile::<LEFT>::part(left, 16 * k, m)) };
        }
        // SAFETY: the caller's.
        unsafe { add_step::<E, RIGHT>(shape, &mut result, &a, right, [16 * k, stride]) }
    }
    result
}

/// Adds the products of a warp's 16 rows and 32 terms `a` and 8 columns of the right operand.
///
/// # Safety
/// All lanes of the warp execute it together.
#[inline(always)]
unsafe fn add_eight<E: HalfElement>(sum: &mut [f32; 4], a: &[Left; 2], b: [u32; 4]) {
    // SAFETY: the caller's.
    unsafe {
        E::multiply(sum, a[0], [b[0], b[1]]);
        E::multiply(sum, a[1], [b[2], b[3]]);
    }
}

/// As [`of_rows`], for 16 rows and any number of 8-column tiles; `right` is the lane's place by `MatrixLane::eight_rows`. The depth
/// is even.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
pub unsafe fn of_rows_by_eight<E: HalfElement, const COLUMNS: u32>(
    shape: Shape,
    left: LanePlace,
    right: LanePlace,
) -> MmaTiles {
    let mut result = MmaTiles::zero();
    for k in 0..shape.depth / 2 {
        // SAFETY: the caller's.
        let a = unsafe {
            [
                mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(left, 0, 2 * k)),
                mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(left, 0, 2 * k + 1)),
            ]
        };
        for n in 0..shape.columns {
            // SAFETY: the caller's.
            unsafe {
                let b = mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(right, 8 * n, 2 * k));
                add_eight::<E>(&mut result.tiles[n], &a, b);
            }
        }
    }
    result
}

/// As [`of_columns`], for 16 rows and any number of 8-column tiles, each `stride` pairs of them further on; `right` is the lane's
/// place by `MatrixLane::eight_columns`. The depth is even.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
pub unsafe fn of_columns_by_eight<E: HalfElement, const LEFT: u32, const RIGHT: u32>(
    shape: Shape,
    left: LanePlace,
    right: LanePlace,
    stride: usize,
) -> MmaTiles {
    let mut result = MmaTiles::zero();
    for k in 0..shape.depth / 2 {
        // SAFETY: the caller's.
        let a = unsafe {
            [
                mem::ldmatrix_x4_trans::<0>(SwizzledTile::<LEFT>::part(left, 32 * k, 0)),
                mem::ldmatrix_x4_trans::<0>(SwizzledTile::<LEFT>::part(left, 32 * k + 16, 0)),
            ]
        };
        for n in 0..shape.columns {
            // SAFETY: the caller's.
            unsafe {
                let part = SwizzledTile::<RIGHT>::part(right, 32 * k, n * stride);
                add_eight::<E>(&mut result.tiles[n], &a, mem::ldmatrix_x4_trans::<0>(part));
            }
        }
    }
    result
}

/// `sum += a * b`, where the terms lie side by side in the rows of `left`, of `LEFT` columns, and are the rows of `right`, of
/// `RIGHT` columns, of which only every `stride`-th 16 are taken. For 16 rows.
///
/// # Safety
/// As [`of_rows`].
#[inline(always)]
pub unsafe fn add_product<E: HalfElement, const LEFT: u32, const RIGHT: u32>(
    shape: Shape,
    sum: &mut MmaTiles,
    left: LanePlace,
    right: LanePlace,
    stride: usize,
) {
    for k in 0..shape.depth {
        // SAFETY: the caller's.
        let a = unsafe { [mem::ldmatrix_x4::<0>(SwizzledTile::<LEFT>::part(left, 0, k)), [0; 4]] };
        // SAFETY: the caller's.
        unsafe { add_step::<E, RIGHT>(shape, sum, &a, right, [16 * k, stride]) }
    }
}
