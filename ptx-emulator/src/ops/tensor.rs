//! Bulk tensor copies: the rows of a tensor map's box.

use super::bulk::global_kind;
use super::memory::{GENERIC, GLOBAL, WRITES, place};
use super::observe_global::check_range;
use super::transfer::Row;
use super::{Cx, Instr};
use crate::tensor_map::{MAX_RANK, TensorMap};

/// The map at a generic address.
pub(crate) fn map_at(cx: &mut Cx, i: &Instr, lane: usize, address: u64) -> Result<TensorMap, String> {
    let mut read = *i;
    read.n &= !WRITES;
    let host = place(cx, GENERIC, &read, lane, address, 128, 64)?;
    // SAFETY: `place` found 128 bytes of the emulated device; the host writes maps before the launch.
    let bytes: [u8; 128] = unsafe { std::ptr::read_unaligned(host as *const [u8; 128]) };
    TensorMap::decode(&bytes).ok_or_else(|| {
        format!(
            "no tensor map lies at address {address:#x}: it comes from `TensorMap::encode` of the emulator"
        )
    })
}

/// The rows of the box at these coordinates, the innermost first, and where each lies in memory, if anywhere.
pub(crate) fn rows(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    map: &TensorMap,
    coordinates: &[i32],
    reduces: bool,
) -> Result<Vec<Row>, String> {
    if map.box_bytes() > cx.shared_len {
        return Err(format!(
            "a box of {} bytes, where the block has {} of shared memory",
            map.box_bytes(),
            cx.shared_len
        ));
    }
    let rank = map.sizes.len();
    let (size, inner) = (map.data_type.size(), u64::from(map.box_sizes[0]) * map.data_type.size());
    let mut counts = [1u32; MAX_RANK];
    for (count, (size, step)) in counts.iter_mut().zip(map.box_sizes.iter().zip(&map.element_strides)).skip(1)
    {
        *count = size.div_ceil(*step);
    }
    // The part of every row that lies in the tensor.
    let first = i64::from(coordinates[0]);
    let clip = |x: i64| x.clamp(0, map.sizes[0] as i64);
    let (low, high) = (clip(first), clip(first + i64::from(map.box_sizes[0])));
    let length = (high - low) as u64 * size;
    let skip = if length == 0 { 0 } else { (low - first) as u64 * size };
    let mut rows = Vec::with_capacity(counts.iter().product::<u32>() as usize);
    let mut step = [0u32; MAX_RANK];
    loop {
        let mut address = map.address.wrapping_add((low as u64).wrapping_mul(size));
        let mut inside = length != 0;
        for k in 1..rank {
            let at = i64::from(coordinates[k]) + i64::from(step[k] * map.element_strides[k]);
            inside &= (0..map.sizes[k] as i64).contains(&at);
            address = address.wrapping_add((at as u64).wrapping_mul(map.strides[k - 1]));
        }
        let host = if inside { place(cx, GLOBAL, i, lane, address, length, 1)? } else { 0 };
        if inside {
            check_range(cx, i, lane, address, length, global_kind(i, reduces))?;
        }
        rows.push(Row {
            global: host,
            skip: skip as u32,
            length: if inside { length as u32 } else { 0 },
            at: rows.len() as u32 * inner as u32,
        });
        let Some(next) = (1..rank).find(|&k| step[k] + 1 < counts[k]) else { return Ok(rows) };
        step[..next].fill(0);
        step[next] += 1;
    }
}
