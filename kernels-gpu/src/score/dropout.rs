//! Dropout of weights: which are kept is a function of their place (see `philox` in `abi`).

use super::{Orientation, TilePlace};
use crate::config::{FlashConfig, KernelConfig};
use crate::sequence::Sequence;
use crate::tiles::fragment::Scores;
use crate::tiles::layout::ScoreLayout;
use crate::tiles::mma_fragment::MmaTiles;
use cuda_std::hint;
use flash_attention_abi::ProblemParams;
use flash_attention_abi::philox;
use flash_attention_geometry::fragment::ThreadPlace;
use flash_attention_geometry::mma::MmaPlace;

/// Dropout in one head of one batch entry.
#[derive(Clone, Copy)]
pub struct Dropout {
    threshold: u32,
    scale: f32,
    seed: [u32; 2],
    offset: u32,
    /// Index of the head among those of all batch entries.
    pub row: u32,
}

/// Which elements of a thread's fragment are kept: bit `8 i + j` is that of row `i` and column `j`.
#[derive(Clone, Copy)]
pub struct Kept(u32);

/// Which elements of a thread's tiles for tensor cores are kept: bit `COLUMNS i + j` is that of row `i` and column `j`.
#[derive(Clone, Copy)]
pub struct KeptTiles(u32);

impl KeptTiles {
    /// All.
    pub const ALL: KeptTiles = KeptTiles(u32::MAX);
}

impl Dropout {
    /// Dropout as the problem has it.
    #[inline(always)]
    pub fn new(problem: &ProblemParams, sequence: &Sequence, head: u32) -> Self {
        Self::of_row(problem, sequence.batch * problem.query_heads + head)
    }

    /// The same for a head by its index among those of all batch entries.
    #[inline(always)]
    pub fn of_row(problem: &ProblemParams, row: u32) -> Self {
        Dropout {
            threshold: problem.dropout_threshold,
            scale: problem.dropout_scale,
            seed: problem.seed,
            offset: problem.offset,
            row,
        }
    }

    /// Whether anything may be dropped; the same for all threads.
    #[inline(always)]
    pub fn given(&self) -> bool {
        self.threshold != 0
    }

    /// The four words of a group of keys and a query.
    #[inline(always)]
    fn words(&self, group: u32, query: u32) -> [u32; 4] {
        philox::philox4x32_10(philox::counter(group, query, self.row, self.offset), self.seed)
    }

    /// What is kept of a tile; all of it without dropout.
    #[inline(always)]
    pub fn kept<C: KernelConfig, O: Orientation>(&self, tile: TilePlace<ThreadPlace>) -> Kept {
        let TilePlace { thread: place, first_query, first_key, .. } = tile;
        if !self.given() {
            return Kept(u32::MAX);
        }
        if O::ROWS_ARE_QUERIES {
            self.of_query_rows::<C>(place, first_query, first_key)
        } else {
            self.of_key_rows::<C>(place, first_query, first_key)
        }
    }

    /// A thread's 8 keys lie 8 apart: two groups of a row serve them all.
    #[inline(always)]
    fn of_query_rows<C: KernelConfig>(&self, place: ThreadPlace, first_query: u32, first_key: u32) -> Kept {
        let (group, _) = philox::place(first_key + place.score_column(0));
        let mut kept = 0;
        // The loops stay loops: ten rounds each, and the result is one register.
        for i in 0..hint::opaque(C::ROWS as u32) {
            for half in 0..hint::opaque(2) {
                let words = self.words(group + 8 * half, first_query + place.row(i));
                kept |= self.bits(words) << (8 * i + 4 * half);
            }
        }
        Kept(kept)
    }

    /// A thread's keys lie 4 apart: of four, the first and third share a group, and the second and fourth.
    #[inline(always)]
    fn of_key_rows<C: KernelConfig>(&self, place: ThreadPlace, first_query: u32, first_key: u32) -> Kept {
        let mut kept = 0;
        for j in 0..hint::opaque(C::COLUMNS as u32) {
            let query = first_query + place.score_column(j);
            for i in 0..hint::opaque(if C::ROWS < 2 { 1 } else { 2 }) {
                let (group, word) = philox::place(first_key + place.row(i));
                let words = self.words(group, query);
                kept |= self.bit(words, word) << (8 * i + j);
                if C::ROWS > 2 {
                    kept |= self.bit(words, word + 1) << (8 * (i + 2) + j);
                }
            }
        }
        Kept(kept)
    }

    /// 1 where a word is kept. Selections, not an index, which would send the words to local memory.
    #[inline(always)]
    fn bit(&self, words: [u32; 4], index: usize) -> u32 {
        let low = if index & 1 == 0 { words[0] } else { words[1] };
        let high = if index & 1 == 0 { words[2] } else { words[3] };
        u32::from(if index & 2 == 0 { low } else { high } >= self.threshold)
    }

    /// A weight, or the gradient of one, after dropout.
    #[inline(always)]
    pub fn one(&self, kept: Kept, i: usize, j: usize, weight: f32) -> f32 {
        if kept.0 >> (8 * i + j) & 1 != 0 { weight * self.scale } else { 0.0 }
    }

    /// The same for a fragment; nothing changes without dropout.
    #[inline(always)]
    pub fn apply<C: KernelConfig>(&self, kept: Kept, weights: &mut Scores) {
        if self.given() {
            for i in 0..C::ROWS {
                for j in 0..C::COLUMNS {
                    weights.rows[i][j] = self.one(kept, i, j, weights.rows[i][j]);
                }
            }
        }
    }

    /// What is kept of a step of backward on tensor cores, a warp's 8, 16 or 32 columns; all of it without dropout.
    #[inline(always)]
    pub fn kept_tiles<L: ScoreLayout<Place = MmaPlace>, O: Orientation>(
        &self,
        tile: TilePlace<MmaPlace>,
    ) -> KeptTiles {
        const { assert!(L::ROWS <= 4 && L::COLUMNS <= 8) };
        if !self.given() {
            return KeptTiles::ALL;
        }
        let TilePlace { thread, first_query, first_key, .. } = tile;
        let mut kept = 0;
        // The loops around the generator stay loops: ten rounds each, and the result is one register.
        if O::ROWS_ARE_QUERIES {
            // A thread's columns are pairs 8 apart: one group of keys for the left ones, one for the right ones. The words of a
            // step of 16 keys are the lower or upper two.
            let (group, first_word) = philox::place(first_key + thread.first_column);
            for index in 0..hint::opaque(2 * L::ROWS as u32) {
                let (i, side) = (index / 2, index % 2);
                let bits = self.bits(self.words(group + side, first_query + thread.row(i))) >> first_word;
                for pair in 0..L::COLUMNS as u32 / 2 {
                    kept |= (bits >> pair & 1) << (L::COLUMNS as u32 * i + 2 * pair + side);
                }
            }
        } else {
            // A thread's rows are 8 apart, and so in one group: all its words, or the lower or upper two.
            let (group, first_word) = philox::place(first_key + thread.first_row);
            for j in 0..hint::opaque(L::COLUMNS as u32) {
                let bits = self.bits(self.words(group, first_query + thread.column(j))) >> first_word;
                for i in 0..L::ROWS as u32 {
                    kept |= (bits >> i & 1) << (L::COLUMNS as u32 * i + j);
                }
            }
        }
        KeptTiles(kept)
    }

    /// Bit `n` says whether what has word `n` is kept.
    #[inline(always)]
    fn bits(&self, words: [u32; 4]) -> u32 {
        let mut bits = 0;
        for word in 0..4 {
            bits |= u32::from(words[word] >= self.threshold) << word;
        }
        bits
    }

    /// Drops weights, or gradients of weights, of a step of backward on tensor cores; nothing changes without dropout.
    #[inline(always)]
    pub fn apply_tiles<L: ScoreLayout>(&self, kept: KeptTiles, weights: &mut L::Fragment) {
        if self.given() {
            for i in 0..L::ROWS {
                for j in 0..L::COLUMNS {
                    let weight = L::element(weights, i, j);
                    let keep = kept.0 >> (L::COLUMNS * i + j) & 1 != 0;
                    *weight = if keep { *weight * self.scale } else { 0.0 };
                }
            }
        }
    }

    /// Drops weights of a tile for tensor cores, whose rows are queries of one head.
    #[inline(always)]
    pub fn apply_mma<C: FlashConfig>(&self, tile: TilePlace<MmaPlace>, weights: &mut MmaTiles) {
        for i in 0..C::ROWS {
            self.apply_to_row::<C>(tile, i, tile.first_query + tile.thread.row(i as u32), weights);
        }
    }

    /// Drops weights of row `i` of such a tile, a constant: that of `query`, whatever the tile's first query is.
    ///
    /// A thread's columns are pairs 8 apart: four pairs share two groups.
    #[inline(always)]
    pub fn apply_to_row<C: FlashConfig>(
        &self,
        tile: TilePlace<MmaPlace>,
        i: usize,
        query: u32,
        weights: &mut MmaTiles,
    ) {
        let (group, _) = philox::place(tile.first_key + tile.thread.first_column);
        // Bits of the row's weights, those of even columns in the lower half. The loop stays one.
        let mut kept = 0;
        for index in 0..hint::opaque(C::SCORE_TILES as u32 / 2) {
            let (side, four) = (index % 2, index / 2);
            let words = self.words(group + side + 8 * four, query);
            kept |= self.bits(words) << (16 * side + 4 * four);
        }
        for j in 0..C::COLUMNS {
            let weight = C::element(weights, i, j);
            let bit = 16 * (j % 2) + j / 2;
            *weight = if kept >> bit & 1 != 0 { *weight * self.scale } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Backward, FlashConfig, FlashGeneral, FlashGeneralFusedGrad, FlashGeneralGrad, FlashGrad,
        FlashGradConfig, Forward,
    };
    use crate::element::{F16, F32};
    use crate::score::{KeyRows, QueryRows};

    fn dropout() -> Dropout {
        Dropout { threshold: 1 << 31, scale: 2.0, seed: [17, 4], offset: 3, row: 9 }
    }

    /// By the definition, one weight at a time.
    fn is_kept(query: u32, key: u32) -> bool {
        let (group, word) = philox::place(key);
        philox::philox4x32_10([group, query, 9, 3], [17, 4])[word] >= 1 << 31
    }

    fn agrees<C: KernelConfig, O: Orientation>() {
        for (first_query, first_key) in [(0, 0), (64, 128), (192, 64)] {
            for thread in 0..C::TILE.threads {
                let place = ThreadPlace::new(thread, C::TILE.rows_per_thread);
                let tile = TilePlace { thread: place, first_query, first_key, plain: true };
                let kept = dropout().kept::<C, O>(tile);
                for i in 0..C::ROWS {
                    for j in 0..C::COLUMNS {
                        let (query, key) = O::query_key(place.row(i as u32), place.score_column(j as u32));
                        let expected = if is_kept(first_query + query, first_key + key) { 2.0 } else { 0.0 };
                        assert_eq!(dropout().one(kept, i, j, 1.0), expected, "{thread} {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_orientation_and_tile_keeps_what_the_definition_keeps() {
        agrees::<Forward<F32, 64>, QueryRows>();
        agrees::<Forward<F32, 256>, QueryRows>();
        agrees::<Backward<F32, 64>, QueryRows>();
        agrees::<Backward<F32, 128>, QueryRows>();
        agrees::<Backward<F32, 64>, KeyRows>();
        agrees::<Backward<F32, 128>, KeyRows>();
    }

    #[test]
    fn tiles_for_tensor_cores_keep_what_the_definition_keeps() {
        type Config = FlashGeneral<F16, 64, 64>;
        for (first_query, first_key) in [(0, 0), (128, 128), (256, 384)] {
            for thread in 0..Config::TILE.threads() {
                let place = MmaPlace::new(thread, Config::TILE.warp_rows);
                let mut weights = MmaTiles { tiles: [[1.0; 4]; 32] };
                let tile = TilePlace { thread: place, first_query, first_key, plain: true };
                dropout().apply_mma::<Config>(tile, &mut weights);
                for i in 0..Config::ROWS {
                    for j in 0..Config::COLUMNS {
                        let (query, key) = (place.row(i as u32), place.column(j as u32));
                        let expected = if is_kept(first_query + query, first_key + key) { 2.0 } else { 0.0 };
                        assert_eq!(*Config::element(&mut weights, i, j), expected, "{thread} {i} {j}");
                    }
                }
            }
        }
    }

    fn steps_agree<C: FlashGradConfig, O: Orientation>() {
        steps_agree_at::<C, O>(|thread| MmaPlace::new(thread, C::TILE.warp_rows));
    }

    /// Two warps share keys, and each has half of a step's queries.
    fn shared_steps_agree<C: FlashGradConfig>() {
        steps_agree_at::<C, KeyRows>(|thread| {
            let (warp, groups) = (thread / 32, C::TILE.warps / 2);
            MmaPlace::within(thread % 32, [warp % groups * 16, warp / groups * C::TILE.warp_columns()])
        });
    }

    fn steps_agree_at<C: FlashGradConfig, O: Orientation>(place_of: impl Fn(u32) -> MmaPlace) {
        let (rows, step) = (C::TILE.block_rows(), C::TILE.step);
        let (query, key) = O::query_key(rows, step);
        // Steps of 16 begin in the upper half of a group of 32 too.
        for (first_query, first_key) in [(0, 0), (2 * query, key), (query, 2 * key), (3 * query, 7 * key)] {
            for thread in 0..C::TILE.threads() {
                let place = place_of(thread);
                let mut weights = MmaTiles { tiles: [[1.0; 4]; 32] };
                let tile = TilePlace { thread: place, first_query, first_key, plain: false };
                dropout().apply_tiles::<C>(dropout().kept_tiles::<C, O>(tile), &mut weights);
                for i in 0..C::ROWS {
                    for j in 0..C::COLUMNS {
                        let (query, key) = O::query_key(place.row(i as u32), place.column(j as u32));
                        let expected = if is_kept(first_query + query, first_key + key) { 2.0 } else { 0.0 };
                        assert_eq!(*C::element(&mut weights, i, j), expected, "{thread} {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn steps_of_backward_on_tensor_cores_keep_what_the_definition_keeps() {
        // 32 and 16 rows a warp.
        steps_agree::<FlashGrad<F16, 64, 64>, QueryRows>();
        steps_agree::<FlashGrad<F16, 64, 64>, KeyRows>();
        steps_agree::<FlashGeneralGrad<F16, 128, 128>, QueryRows>();
        steps_agree::<FlashGeneralGrad<F16, 128, 128>, KeyRows>();
        shared_steps_agree::<FlashGeneralFusedGrad<F16, 64, 64>>();
        shared_steps_agree::<FlashGeneralFusedGrad<F16, 256, 256>>();
    }
}
