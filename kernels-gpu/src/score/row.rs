//! The rules of scores for one row of a tile, where rows belong to several heads.

use super::{QueryRows, ScoreMod, ScoreRules, TilePlace};
use crate::element::Element;
use crate::tiles::layout::ScoreLayout;

impl<E: Element> ScoreRules<E> {
    /// As [`ScoreRules::apply`], for row `i` of the thread alone, a constant: that of `query`, whatever the tile's first query is.
    ///
    /// # Safety
    /// As [`ScoreRules::apply`].
    #[inline(always)]
    pub unsafe fn apply_to_row<L: ScoreLayout>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        i: usize,
        query: u32,
    ) {
        let place = tile.hidden();
        // SAFETY: softcap and ALiBi read nothing; the rest is the caller's.
        unsafe {
            if self.softcap.given() {
                map::<L>(scores, place, i, |score, key| self.softcap.apply(score, query, key));
            } else {
                map::<L>(scores, place, i, |score, _| score * self.scale_log2);
            }
            if self.alibi.given() {
                map::<L>(scores, place, i, |score, key| self.alibi.apply(score, query, key));
            }
            if tile.plain {
                return;
            }
            if self.bias.given() || self.visible.1.given() {
                map::<L>(scores, place, i, |score, key| self.bias_and_visibility(score, query, key));
            } else {
                self.hide_keys_outside::<L>(scores, tile, i, query);
            }
        }
    }

    /// Sets those of row `i` of the thread, a constant, that lie outside of sequence and band to minus infinity. The row is that of
    /// `query`, whatever the tile's first query is.
    #[inline(always)]
    pub fn hide_keys_outside<L: ScoreLayout>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        i: usize,
        query: u32,
    ) {
        let columns = self.visible.0.columns::<QueryRows>(query);
        map::<L>(
            scores,
            tile.hidden(),
            i,
            |score, key| {
                if columns.contains(key) { score } else { f32::NEG_INFINITY }
            },
        );
    }
}

/// Replaces each score of row `i` by what `each` makes of it and its key.
#[inline(always)]
fn map<L: ScoreLayout>(
    scores: &mut L::Fragment,
    place: TilePlace<L::Place>,
    i: usize,
    each: impl Fn(f32, u32) -> f32,
) {
    for j in 0..L::COLUMNS {
        let key = place.first_key + L::column(place.thread, j);
        let score = L::element(scores, i, j);
        *score = each(*score, key);
    }
}
