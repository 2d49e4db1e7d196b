//! How a thread holds its part of a score tile: what the rules of scores and the softmax need to know of it.

/// A thread's part of a score tile: `ROWS` rows of `COLUMNS` columns each, wherever they lie.
pub trait ScoreLayout {
    /// The part, in registers.
    type Fragment;
    /// A thread's place in its block.
    type Place: Copy;
    /// Rows that one thread owns.
    const ROWS: usize;
    /// Score columns that one thread owns.
    const COLUMNS: usize;

    /// An element. Indices are constants after unrolling: any other would send the fragment to local memory.
    fn element(fragment: &mut Self::Fragment, i: usize, j: usize) -> &mut f32;

    /// Row of the tile of the thread's row `i`.
    fn row(place: Self::Place, i: usize) -> u32;

    /// Column of the tile of the thread's column `j`.
    fn column(place: Self::Place, j: usize) -> u32;
}
