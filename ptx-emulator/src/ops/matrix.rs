//! `ldmatrix`, `stmatrix` and `movmatrix`: 8 by 8 tiles of 16 bits between shared memory and the lanes, or among these.
//!
//! Lane `8 j + r` gives the address of row `r` of tile `j`. Register `j` of lane `l` holds the elements `2 (l % 4)` and the next
//! of row `l / 4`, or with `.trans` of column `l / 4`.

use super::collide::{agree, may_collide};
use super::memory::{GENERIC, places};
use super::mma::whole_warp;
use super::{Cx, Flow, Handler, Instr, LANES};

/// The words of a tile, 4 a row: register `j` of the 32 lanes.
pub(crate) type Tile = [u32; LANES];

/// The tile with rows and columns exchanged.
#[inline(always)]
pub(crate) fn transposed(tile: &Tile) -> Tile {
    let mut out = [0; LANES];
    for (l, out) in out.iter_mut().enumerate() {
        let (row, column) = (2 * (l % 4), l / 4);
        let element = |row: usize| tile[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
        *out = element(row) | element(row + 1) << 16;
    }
    out
}

/// The lanes that give the addresses of the rows of `count` tiles.
fn lanes_of_rows(count: u32) -> u32 {
    if count == 4 { !0 } else { (1 << (8 * count)) - 1 }
}

/// The host addresses of the rows of `count` tiles, or what to do.
///
/// # Safety
/// As for `places`.
#[inline(always)]
unsafe fn rows<const SPACE: u8>(cx: &mut Cx, i: &Instr, m: u32, count: u32) -> Result<[usize; LANES], Flow> {
    whole_warp(cx, m)?;
    // SAFETY: by contract.
    let Some(rows) = (unsafe { places::<SPACE>(cx, i, lanes_of_rows(count), 16, 16) }) else {
        return Err(Flow::Fault);
    };
    if SPACE == GENERIC {
        let shared = cx.shared as usize;
        let outside = rows.iter().position(|&r| r.wrapping_sub(shared) >= cx.shared_len as usize);
        if let Some(lane) = outside {
            return Err(cx.fail(lane as u32, "a row of a matrix that does not lie in shared memory".into()));
        }
    }
    Ok(rows)
}

/// `ldmatrix`, or with `STORES` `stmatrix`: the targets or sources are listed at `b`; transposed if `c`.
pub(crate) struct MoveMatrix<const SPACE: u8, const STORES: bool>;

impl<const SPACE: u8, const STORES: bool> Handler for MoveMatrix<SPACE, STORES> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let count = i.n & 0xff;
        // SAFETY: the decoder gave an address register and `count` listed registers; `rows` checked the first `8 count` lanes.
        // Shared memory belongs to the host thread that runs the block.
        unsafe {
            let rows = match rows::<SPACE>(cx, i, m, count) {
                Ok(rows) => rows,
                Err(flow) => return flow,
            };
            for j in 0..count {
                let rows = &rows[8 * j as usize..8 * j as usize + 8];
                if STORES {
                    write(rows, &stored(cx, i, j));
                } else {
                    let tile = read(rows);
                    let tile = if i.c != 0 { transposed(&tile) } else { tile };
                    cx.set_lanes(cx.extra(i.b + j), !0, &tile);
                }
            }
            let lanes = lanes_of_rows(count);
            if STORES && may_collide(cx, i, lanes, &rows, 16) {
                let mut written = [[0u32; 4]; LANES];
                for (j, rows) in (0..count).zip(written.as_chunks_mut::<8>().0) {
                    rows.copy_from_slice(stored(cx, i, j).as_chunks::<4>().0);
                }
                let kept = |_: &Cx, l: usize| *(rows[l] as *const [u32; 4]) == written[l];
                let same = |_: &Cx, a: usize, b: usize| written[a] == written[b];
                if !agree::<SPACE>(cx, i, (lanes, &rows, 16), kept, same) {
                    return Flow::Fault;
                }
            }
        }
        Flow::Next
    }
}

/// Tile `j` of what `stmatrix` stores.
///
/// # Safety
/// `i` must be one, of more than `j` tiles.
#[inline(always)]
unsafe fn stored(cx: &Cx, i: &Instr, j: u32) -> Tile {
    // SAFETY: the decoder listed a 32-bit register for each tile.
    let tile = unsafe { *cx.lanes::<u32>(cx.extra(i.b + j)) };
    if i.c != 0 { transposed(&tile) } else { tile }
}

/// `movmatrix`: the tile of register `a`, transposed, into `d`.
pub(crate) struct TransposeMatrix;

impl Handler for TransposeMatrix {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        // SAFETY: the decoder gave two 32-bit registers.
        unsafe {
            let tile = transposed(cx.lanes::<u32>(i.a));
            cx.set_lanes(i.d, !0, &tile);
        }
        Flow::Next
    }
}

/// # Safety
/// Each of the 8 rows is valid for 16 bytes, and aligned to them.
#[inline(always)]
unsafe fn read(rows: &[usize]) -> Tile {
    let mut tile = [0; LANES];
    for (words, &row) in tile.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
        // SAFETY: by contract.
        *words = unsafe { *(row as *const [u32; 4]) };
    }
    tile
}

/// # Safety
/// As for `read`.
#[inline(always)]
unsafe fn write(rows: &[usize], tile: &Tile) {
    for (words, &row) in tile.as_chunks::<4>().0.iter().zip(rows) {
        // SAFETY: by contract.
        unsafe { *(row as *mut [u32; 4]) = *words };
    }
}
