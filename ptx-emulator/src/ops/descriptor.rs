//! Matrix descriptors of `wgmma`: where the 16-byte pieces of an operand lie in shared memory.
//!
//! PTX manual, "Asynchronous Warpgroup Level Matrix Instructions", shared memory layouts and matrix descriptor. An operand is cut
//! into pieces of 16 bytes. Where K is the leading dimension, a piece has the elements of one row that are next to each other
//! along K, and every row of an instruction has two. Otherwise a piece has 8 rows of one column.

/// A decoded descriptor; all offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    start: u32,
    leading: u32,
    stride: u32,
    /// Where in the pattern of its swizzle the matrix begins, in lines of 128 bytes.
    base: u32,
    /// Bits of a piece's number that the swizzle changes: 0, 1, 3 or 7.
    mask: u32,
}

impl Descriptor {
    pub(crate) fn decode(bits: u64) -> Descriptor {
        let field = |at: u32| (bits >> at & 0x3fff) as u32 * 16;
        Descriptor {
            start: field(0),
            leading: field(16),
            stride: field(32),
            base: (bits >> 49 & 7) as u32,
            mask: [0, 7, 3, 1][(bits >> 62) as usize],
        }
    }

    /// Bytes of a line of the pattern.
    #[inline(always)]
    fn span(&self) -> u32 {
        16 * (self.mask + 1)
    }

    #[inline(always)]
    fn swizzled(&self, address: u32) -> u32 {
        address ^ ((address >> 7).wrapping_sub(self.base) & self.mask) << 4
    }

    /// Address of piece `piece` of row `row`, where K leads.
    #[inline(always)]
    pub(crate) fn along_k(&self, row: u32, piece: u32) -> u32 {
        let next = if self.mask == 0 { self.leading } else { 16 };
        self.swizzled(self.start + row / 8 * self.stride + row % 8 * self.span() + piece * next)
    }

    /// Address of the piece with the 8 rows from `8 rows` on of column `column`, where the rows lead.
    #[inline(always)]
    pub(crate) fn along_rows(&self, rows: u32, column: u32) -> u32 {
        let (far, near) =
            if self.mask == 0 { (self.stride, self.leading) } else { (self.leading, self.stride) };
        let width = self.mask + 1;
        let offset = rows % width * 16 + rows / width * far + column % 8 * self.span() + column / 8 * near;
        self.swizzled(self.start + offset)
    }

    /// No piece of the first `rows` rows, of which an instruction has two each (or 16 columns where the rows lead), ends beyond this.
    pub(crate) fn reach(&self, rows_lead: bool, rows: u32) -> u64 {
        let last = if rows_lead {
            // Each term at its largest.
            let Descriptor { leading, stride, mask, .. } = *self;
            let width = mask + 1;
            let (far, near) = if mask == 0 { (stride, leading) } else { (leading, stride) };
            let lines = rows.div_ceil(8).saturating_sub(1);
            self.start + mask * 16 + lines / width * far + 7 * self.span() + near
        } else {
            let next = if self.mask == 0 { self.leading } else { 16 };
            self.start + rows.saturating_sub(1) / 8 * self.stride + 7 * self.span() + next
        };
        // The swizzle changes bits 4 to 6.
        u64::from(last | 0x70) + 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(start: u64, leading: u64, stride: u64, base: u64, mode: u64) -> u64 {
        start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | base << 49 | mode << 62
    }

    #[test]
    fn fields_lie_where_the_manual_says() {
        let d = Descriptor::decode(bits(0x1230, 128, 1024, 5, 2));
        assert_eq!(d, Descriptor { start: 0x1230, leading: 128, stride: 1024, base: 5, mask: 3 });
        assert_eq!(Descriptor::decode(1 << 62).mask, 7);
        assert_eq!(Descriptor::decode(3 << 62).mask, 1);
    }

    #[test]
    fn core_matrices_without_a_swizzle() {
        // 8 rows of 16 bytes are 128 bytes in a row; 256 to the next piece, 512 to the next 8 rows.
        let d = Descriptor::decode(bits(0x400, 256, 512, 0, 0));
        assert_eq!(
            (d.along_k(0, 0), d.along_k(3, 0), d.along_k(0, 1), d.along_k(9, 1)),
            (0x400, 0x430, 0x500, 0x710)
        );
        // Rows lead: `stride` to the next 8 rows, `leading` to the next 8 columns.
        assert_eq!(
            (d.along_rows(0, 3), d.along_rows(1, 0), d.along_rows(2, 9)),
            (0x430, 0x600, 0x400 + 1024 + 256 + 16)
        );
    }

    #[test]
    fn no_piece_lies_beyond_the_reach() {
        for mode in 0..4 {
            for (leading, stride) in [(16, 1024), (2048, 512), (128, 4096), (0, 0)] {
                for (start, base) in [(0x800, 0), (0x930, 3), (0x20, 7)] {
                    let d = Descriptor::decode(bits(start, leading, stride, base, mode));
                    for rows in [8, 16, 64, 248] {
                        let k = (0..rows).flat_map(|r| [d.along_k(r, 0), d.along_k(r, 1)]).max().unwrap();
                        let far = (0..rows / 8).flat_map(|r| (0..16).map(move |c| d.along_rows(r, c)));
                        let (along_k, along_rows) = (d.reach(false, rows), d.reach(true, rows));
                        assert!(u64::from(k) + 16 <= along_k && along_k <= u64::from(k) + 16 + 0x70);
                        assert!(u64::from(far.max().unwrap()) + 16 <= along_rows);
                    }
                }
            }
        }
    }

    #[test]
    fn swizzles_combine_the_piece_with_the_line() {
        let d = Descriptor::decode(bits(0x800, 16, 1024, 0, 1));
        for row in 0..16 {
            for piece in 0..2 {
                assert_eq!(d.along_k(row, piece), 0x800 + 128 * row + 16 * (piece ^ (row % 8)));
            }
        }
        // 32 bytes further along K: pieces 2 and 3 of the same lines.
        let d = Descriptor::decode(bits(0x820, 16, 1024, 0, 1));
        assert_eq!((d.along_k(0, 0), d.along_k(1, 0), d.along_k(3, 1)), (0x820, 0x880 + 16 * 3, 0x980));
        // Lines of 64 bytes: two rows share a line of 128, and four such lines are a pattern.
        let d = Descriptor::decode(bits(0x800, 16, 512, 0, 2));
        assert_eq!(
            (d.along_k(1, 0), d.along_k(2, 0), d.along_k(7, 1)),
            (0x840, 0x880 + 16, 0x800 + 448 + 32)
        );
        // A pattern that begins at line 2 of its 8.
        let d = Descriptor::decode(bits(0x900, 16, 1024, 2, 1));
        assert_eq!((d.along_k(0, 0), d.along_k(1, 0)), (0x900, 0x990));
        // Rows lead: 8 pieces a line, then `leading`.
        let d = Descriptor::decode(bits(0x800, 2048, 1024, 0, 1));
        assert_eq!(
            (d.along_rows(7, 0), d.along_rows(8, 0), d.along_rows(0, 9)),
            (0x870, 0x1000, 0x800 + 1024 + 128 + 16)
        );
    }
}
