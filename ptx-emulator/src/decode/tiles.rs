//! `wmma`, and the shapes of `mma` that [`crate::ops::tiles`] multiplies.

use super::data::Address;
use super::function::{Decoded, FunctionDecoder, operands};
use super::matrix::parts;
use super::modifiers::Modifiers;
use crate::ops::memory::{WIDE_ADDRESS, WRITES};
use crate::ops::mma::{A_OTHER, B_OTHER, Brain, Half, SATURATE, Tensor32};
use crate::ops::tiles::{
    BOTH_SET, COLUMNS_TOGETHER, DoubleTiles, FloatTiles, HALF_C, HALF_D, IntTiles, PiecePlace, WholeWarp,
};
use crate::ops::{Run, bits, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

/// Rows, columns and depth of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape(u32, u32, u32);

impl Shape {
    fn parse(name: &str) -> Option<Shape> {
        let (m, rest) = name.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some(Shape(m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
    }

    /// Whether `wmma` has the shape for a type of multiplicands.
    fn is_of_wmma(self, ty: &str) -> bool {
        match ty {
            "f16" | "bf16" | "s8" | "u8" => {
                [Shape(16, 16, 16), Shape(8, 32, 16), Shape(32, 8, 16)].contains(&self)
            }
            "tf32" => self == Shape(16, 16, 8),
            "f64" => self == Shape(8, 8, 4),
            "s4" | "u4" => self == Shape(8, 8, 32),
            "b1" => self == Shape(8, 8, 128),
            // Accumulators.
            "f32" => {
                [Shape(16, 16, 16), Shape(8, 32, 16), Shape(32, 8, 16), Shape(16, 16, 8)].contains(&self)
            }
            _ => [Shape(16, 16, 16), Shape(8, 32, 16), Shape(32, 8, 16), Shape(8, 8, 32), Shape(8, 8, 128)]
                .contains(&self),
        }
    }

    /// Whether `mma` has the shape for a type of multiplicands, and it is multiplied here.
    fn is_of_mma(self, ty: &str) -> bool {
        match ty {
            "s8" | "u8" => self == Shape(8, 8, 16),
            "s4" | "u4" => [Shape(8, 8, 32), Shape(16, 8, 32), Shape(16, 8, 64)].contains(&self),
            "b1" => [Shape(8, 8, 128), Shape(16, 8, 128), Shape(16, 8, 256)].contains(&self),
            "f64" => [Shape(8, 8, 4), Shape(16, 8, 4), Shape(16, 8, 8), Shape(16, 8, 16)].contains(&self),
            _ => false,
        }
    }
}

/// Bits of an element.
fn width(ty: &str) -> Option<u32> {
    Some(match ty {
        "f64" => 64,
        "f32" | "s32" | "tf32" => 32,
        "f16" | "bf16" => 16,
        "s8" | "u8" => 8,
        "s4" | "u4" => 4,
        "b1" => 1,
        _ => return None,
    })
}

/// A matrix as `wmma` moves it: its pieces, and how they lie in memory.
struct Fragment {
    /// Blocks of 8 rows (of B: of columns), and how many there are in the other direction.
    blocks: u32,
    across: u32,
    /// Pieces follow one another by blocks first, not across.
    blocks_first: bool,
    /// Elements that a lane has in a piece's row, and their bits.
    each: u32,
    bits: u32,
    /// Registers of the instruction.
    registers: u32,
    /// Elements of a register.
    packed: u32,
    /// Elements of a lane lie next to each other in memory.
    together: bool,
    /// Stride of a matrix that lies dense.
    stride: u32,
}

impl Fragment {
    /// `role` is `a`, `b`, `c` or `d`.
    fn of(role: &str, Shape(m, n, k): Shape, ty: &str, row_major: bool) -> Option<Fragment> {
        let bits = width(ty)?;
        let stride = match (role, row_major) {
            ("a", true) | ("b", false) => k,
            ("a", false) => m,
            ("b", true) => n,
            (_, true) => n,
            (_, false) => m,
        };
        if role == "c" || role == "d" {
            let half = ty == "f16";
            let (blocks, across) = (m / 8, n / 8);
            let registers = blocks * across * if half { 1 } else { 2 };
            let packed = if half { 2 } else { 1 };
            return Some(Fragment {
                blocks,
                across,
                blocks_first: true,
                each: 2,
                bits,
                registers,
                packed,
                together: row_major,
                stride,
            });
        }
        let each = if bits == 64 { 1 } else { 32 / bits };
        let (blocks, across) = (if role == "a" { m } else { n } / 8, k / (4 * each));
        // Fragments of halves have 8 registers whatever the shape: smaller matrices are there several times.
        let registers = if ty == "f16" { 8 } else { blocks * across };
        let together = row_major == (role == "a");
        Some(Fragment {
            blocks,
            across,
            blocks_first: role == "a",
            each,
            bits,
            registers,
            packed: each,
            together,
            stride,
        })
    }

    /// Block and place across of a piece.
    fn place(&self, piece: u32) -> (u32, u32) {
        if self.blocks_first {
            (piece % self.blocks, piece / self.blocks)
        } else {
            (piece / self.across, piece % self.across)
        }
    }
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn tiles(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        match s.opcode.as_str() {
            "wmma" => match m.next()? {
                "load" => self.move_fragment(s, m, true)?,
                "store" => self.move_fragment(s, m, false)?,
                "mma" => self.wmma_product(s, m)?,
                _ => return Err(m.unknown()),
            },
            "mma" => return self.other_mma(s, m),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `wmma.load.ROLE.sync.aligned.LAYOUT.SHAPE{.SPACE}.TYPE r, [p]{, stride}` and `wmma.store.d… [p], r{, stride}`: each piece is
    /// loaded or stored by ordinary accesses.
    fn move_fragment(&mut self, s: &Statement, mut m: Modifiers, loads: bool) -> Decoded {
        let role = m.want(if loads { &["a", "b", "c"] } else { &["d"] })?;
        m.want(&["sync"])?;
        m.want(&["aligned"])?;
        let row_major = m.want(&["row", "col"])? == "row";
        let shape = Shape::parse(m.next()?).ok_or_else(|| m.unknown())?;
        m.take(&["global", "shared", "shared::cta"]);
        let ty = m.next()?;
        m.end()?;
        let sums = matches!(ty, "f32" | "s32") || ty == "f16" || ty == "f64";
        let factors = !matches!(ty, "f32" | "s32");
        let fits = shape.is_of_wmma(ty) && if matches!(role, "c" | "d") { sums } else { factors };
        let fragment =
            Fragment::of(role, shape, ty, row_major).filter(|f| fits && (f.bits >= 8 || f.together));
        let fragment = fragment.ok_or_else(|| m.unknown())?;
        let (first, second, stride) = match s.operands.as_slice() {
            [a, b] => (a, b, None),
            [a, b, stride] => (a, b, Some(stride)),
            all => return Err(format!("`wmma` takes 2 or 3 operands, not {}", all.len())),
        };
        let (registers, address) = if loads { (first, second) } else { (second, first) };
        let registers = parts(registers, fragment.registers as usize, "the registers")?;
        let address = self.address(s, address)?;
        let dense = Operand::Int(i64::from(fragment.stride));
        let stride = self.src(stride.unwrap_or(&dense), Type::U32)?;
        let whole = self.blank(pick::<WholeWarp>());
        self.emit(whole);
        let pieces = fragment.blocks * fragment.across;
        let in_piece = fragment.registers.min(pieces * (fragment.each / fragment.packed)) / pieces;
        for (at, register) in registers.iter().enumerate() {
            let at = at as u32;
            let piece = at / in_piece % pieces;
            // The second register of an accumulator's piece has the next column.
            let column = at % in_piece;
            // A store needs each element once.
            if loads || at < pieces * in_piece {
                self.move_register(&fragment, (piece, column), register, &address, stride, loads)?;
            }
        }
        Ok(())
    }

    fn move_register(
        &mut self,
        f: &Fragment,
        (piece, column): (u32, u32),
        register: &Operand,
        address: &Address,
        stride: u32,
        loads: bool,
    ) -> Decoded {
        let ty = if f.bits == 64 { Type::B64 } else { Type::B32 };
        let value = if loads { self.dst(register, ty)? } else { self.src(register, ty)? };
        let after = self.pending();
        // A register goes as a whole where its elements lie together, else one by one.
        let whole = f.packed == 1 || f.together;
        let size = if whole { u64::from(f.bits * f.packed / 8) } else { u64::from(f.bits / 8) };
        let count = if whole { 1 } else { f.packed };
        let (block, across) = f.place(piece);
        let mut elements = vec![value];
        if !whole {
            elements = (0..count).map(|_| self.temp(super::frame::Class::Word)).collect();
        }
        if !whole && !loads {
            self.split(value, &elements, f.bits);
        }
        for (element, &part) in (0u32..).zip(&elements) {
            let mut place = self.blank(pick::<PiecePlace>());
            (place.a, place.b, place.d) =
                (self.wide_base(address)?, stride, self.temp(super::frame::Class::Long));
            (place.c, place.e) = (8 * block, 4 * f.each * across + column + element);
            place.n = f.each | f.bits << 8 | if f.together { COLUMNS_TOGETHER } else { 0 };
            self.emit(place);
            let target = Address { register: place.d, wide: WIDE_ADDRESS, ..*address };
            let mut instr = self.memory_instr(piece_run(loads, size, address.space)?, &target, &[part]);
            instr.n |= if loads { 0 } else { WRITES };
            self.emit(instr);
        }
        self.restore(after);
        if !whole && loads {
            let mut pack = self.blank(pick::<bits::Pack>());
            (pack.a, pack.n, pack.imm, pack.d) = (self.list(&elements), count, i64::from(f.bits), value);
            self.emit(pack);
        } else if loads && !self.after.is_empty() {
            // The conversions of the register follow.
            self.nothing();
        }
        Ok(())
    }

    /// A register into parts of so many bits.
    fn split(&mut self, value: u32, parts: &[u32], width: u32) {
        let mut unpack = self.blank(pick::<bits::Unpack>());
        (unpack.b, unpack.n, unpack.imm, unpack.a) =
            (self.list(parts), parts.len() as u32, i64::from(width), value);
        self.emit(unpack);
    }

    /// The address register with 64 bits.
    fn wide_base(&mut self, address: &Address) -> Decoded<u32> {
        if address.wide == WIDE_ADDRESS {
            return Ok(address.register);
        }
        let wide = self.temp(super::frame::Class::Long);
        self.emit_op(pick::<crate::ops::lanes::M1<crate::ops::int::Widen<u32>>>(), wide, &[address.register]);
        Ok(wide)
    }

    /// `wmma.mma{.xor.popc | .and.popc}.sync.aligned.ALAYOUT.BLAYOUT.SHAPE.TYPES{.satfinite} d, a, b, c`.
    fn wmma_product(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let both = self.bit_operation(&mut m)?;
        m.want(&["sync"])?;
        m.want(&["aligned"])?;
        let layouts = (m.want(&["row", "col"])?, m.want(&["row", "col"])?);
        let shape = Shape::parse(m.next()?).ok_or_else(|| m.unknown())?;
        let rounds = m.has("rn");
        let d = m.next()?;
        let a_or_c = m.next()?;
        // Halves name only the sums; the others all four types.
        let (a, b, c) = match m.take(&["s8", "u8", "s4", "u4", "b1", "bf16", "tf32", "f64"]) {
            Some(b) => (a_or_c, b, m.want(&["s32", "f32", "f64"])?),
            None => ("f16", "f16", a_or_c),
        };
        if rounds && a != "f64" {
            return Err(m.unknown());
        }
        if a == "f64" && !rounds {
            // The manual has it behind the shape, nvcc writes it here.
            m.take(&["rn"]);
        }
        let saturate = m.has("satfinite");
        m.end()?;
        let narrow = width(a).is_some_and(|w| w < 8);
        if !shape.is_of_wmma(a) || (narrow && layouts != ("row", "col")) || both.is_some() != (a == "b1") {
            return Err(m.unknown());
        }
        let half = |t: &str| a == "f16" && t == "f16";
        let flags = both.unwrap_or(0) | if half(d) { HALF_D } else { 0 } | if half(c) { HALF_C } else { 0 };
        self.tile_product(s, shape, [d, a, b, c], flags | if saturate { SATURATE } else { 0 }, 8)
    }

    /// `.xor.popc` or `.and.popc`: the flag.
    fn bit_operation(&mut self, m: &mut Modifiers) -> Decoded<Option<u32>> {
        let Some(operation) = m.take(&["xor", "and"]) else { return Ok(None) };
        m.want(&["popc"])?;
        Ok(Some(if operation == "and" { BOTH_SET } else { 0 }))
    }

    /// `mma.sync.aligned.SHAPE.row.col{.satfinite}.TYPES{.xor.popc | .and.popc}`, if its shape and types are for this module.
    fn other_mma(&mut self, s: &Statement, mut m: Modifiers) -> Decoded<bool> {
        let found = (|| -> Decoded<_> {
            m.want(&["sync"])?;
            m.want(&["aligned"])?;
            let shape = Shape::parse(m.next()?).ok_or_else(|| m.unknown())?;
            m.want(&["row"])?;
            m.want(&["col"])?;
            let saturate = m.has("satfinite");
            Ok((shape, saturate, [m.next()?, m.next()?, m.next()?, m.next()?]))
        })();
        let Ok((shape, saturate, types)) = found else { return Ok(false) };
        if !shape.is_of_mma(types[1]) {
            return Ok(false);
        }
        let both = self.bit_operation(&mut m)?;
        m.end()?;
        if both.is_some() != (types[1] == "b1") || saturate && matches!(types[1], "b1" | "f64") {
            return Err(m.unknown());
        }
        self.tile_product(s, shape, types, both.unwrap_or(0) | if saturate { SATURATE } else { 0 }, 0)?;
        Ok(true)
    }

    /// A product of pieces. `halves` is how many registers fragments of halves have, if not as many as they need.
    fn tile_product(
        &mut self,
        s: &Statement,
        shape: Shape,
        types: [&str; 4],
        flags: u32,
        halves: usize,
    ) -> Decoded {
        let unknown = || format!("there is no `{}`, or it is not supported", s.mnemonic());
        let [d_type, a_type, b_type, c_type] = types;
        let (run, sum) = product_run(a_type, b_type).ok_or_else(unknown)?;
        let half_sums = |ty: &str| a_type == "f16" && ty == "f16";
        let fits = |ty: &str| ty == sum || half_sums(ty);
        if !fits(d_type) || !fits(c_type) || (flags & SATURATE != 0 && sum != "s32") {
            return Err(unknown());
        }
        let Shape(m, n, k) = shape;
        let each = width(a_type).map_or(1, |w| if w == 64 { 1 } else { 32 / w });
        let (rows, columns, deep) = (m / 8, n / 8, k / (4 * each));
        let registers = |ty: &str| (rows * columns) as usize * if ty == "f16" { 1 } else { 2 };
        let factors =
            |blocks: u32| if a_type == "f16" && halves > 0 { halves } else { (blocks * deep) as usize };
        let [d, a, b, c] = operands(s)?;
        let ty = if sum == "f64" { Type::B64 } else { Type::B32 };
        let mut list = vec![rows, columns, deep];
        let c = parts(c, registers(c_type), "c")?;
        let (a, b) = (parts(a, factors(rows), "a")?, parts(b, factors(columns), "b")?);
        for element in parts(d, registers(d_type), "d")? {
            list.push(self.dst(element, ty)?);
        }
        // Of fragments that hold a matrix several times the first registers are enough.
        for (elements, count) in [(a, rows * deep), (b, columns * deep), (c, c.len() as u32)] {
            for element in elements.iter().take(count as usize) {
                list.push(self.src(element, ty)?);
            }
        }
        let mut instr = self.blank(run);
        instr.b = self.list(&list);
        let signed = |ty: &str, flag: u32| if ty.starts_with('s') { flag } else { 0 };
        instr.n = flags | signed(a_type, A_OTHER) | signed(b_type, B_OTHER);
        self.emit(instr);
        Ok(())
    }
}

/// The handler for types of multiplicands, and the type of the sums.
fn product_run(a: &str, b: &str) -> Option<(Run, &'static str)> {
    Some(match (a, b) {
        ("f16", "f16") => (pick::<FloatTiles<Half, 8>>(), "f32"),
        ("bf16", "bf16") => (pick::<FloatTiles<Brain, 8>>(), "f32"),
        ("tf32", "tf32") => (pick::<FloatTiles<Tensor32, 4>>(), "f32"),
        ("f64", "f64") => (pick::<DoubleTiles>(), "f64"),
        ("s8" | "u8", "s8" | "u8") => (pick::<IntTiles<8>>(), "s32"),
        ("s4" | "u4", "s4" | "u4") => (pick::<IntTiles<4>>(), "s32"),
        ("b1", "b1") => (pick::<IntTiles<1>>(), "s32"),
        _ => return None,
    })
}

/// The handler of a load or store of so many bytes.
fn piece_run(loads: bool, size: u64, space: Space) -> Decoded<Run> {
    let ty = match size {
        8 => Type::B64,
        4 => Type::B32,
        2 => Type::B16,
        _ => Type::B8,
    };
    match space {
        Space::Generic | Space::Global | Space::Shared if loads => {
            super::data::load_run(ty, size.max(4), space)
        }
        Space::Generic | Space::Global | Space::Shared => super::data::store_run(ty, space),
        other => Err(format!("`wmma` of {} memory", other.name())),
    }
}
