//! The rules of scores where rows of a tile belong to several heads.

use super::{QueryRows, ScoreMod, ScoreRules, TilePlace};
use crate::element::Element;
use crate::tiles::fragment::MAX_ROWS;
use crate::tiles::layout::ScoreLayout;

impl<E: Element> ScoreRules<E> {
    /// As [`ScoreRules::apply`], where row `i` of a thread is that of query `queries[i]`, whatever the tile's first query is, and of a head
    /// whose rules are `own(i)`. These rules are any head's.
    ///
    /// # Safety
    /// As [`ScoreRules::apply`].
    #[inline(always)]
    pub unsafe fn apply_to_rows<L: ScoreLayout>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        queries: &[u32; MAX_ROWS],
        own: impl Fn(usize) -> ScoreRules<E>,
    ) {
        let place = tile.hidden();
        // SAFETY: ALiBi reads nothing; the rest is the caller's.
        unsafe {
            self.cap_or_scale::<L, QueryRows>(scores, place);
            if self.alibi.given() {
                for i in 0..L::ROWS {
                    let alibi = own(i).alibi;
                    map_row::<L>(scores, place, i, |score, key| alibi.apply(score, queries[i], key));
                }
            }
            if tile.plain {
                return;
            }
            if self.bias.given() || self.visible.1.given() {
                for i in 0..L::ROWS {
                    let own = own(i);
                    map_row::<L>(scores, place, i, |score, key| {
                        own.bias_and_visibility(score, queries[i], key)
                    });
                }
            } else {
                self.hide_keys_outside::<L>(scores, tile, queries);
            }
        }
    }

    /// Sets those of a tile that lie outside of sequence and band to minus infinity, where row `i` of a thread is that of query
    /// `queries[i]`, whatever the tile's first query is.
    #[inline(always)]
    pub fn hide_keys_outside<L: ScoreLayout>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        queries: &[u32; MAX_ROWS],
    ) {
        let place = tile.hidden();
        for i in 0..L::ROWS {
            let columns = self.visible.0.columns::<QueryRows>(queries[i]);
            for j in 0..L::COLUMNS {
                if !columns.contains(place.first_key + L::column(place.thread, j)) {
                    *L::element(scores, i, j) = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// Replaces each score of row `i` of a thread by what `each` makes of it and its key.
#[inline(always)]
fn map_row<L: ScoreLayout>(
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
