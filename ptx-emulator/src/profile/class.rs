//! What kind of work an instruction is, by its mnemonic.

/// A kind of instruction, named after the unit or the place that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Integer and bitwise arithmetic, `dp4a`.
    Integer,
    /// Arithmetic of f32.
    Float,
    /// Arithmetic of f16, bf16 and their pairs.
    Half,
    /// Arithmetic of f64.
    Double,
    /// `setp`, `set`, `selp`, `slct`, `testp`.
    Comparison,
    /// `cvt`.
    Conversion,
    /// Instructions that use a special-function unit: `ex2 lg2 sin cos tanh rcp rsqrt sqrt`, and `div` of f32.
    Special,
    /// Products of matrices.
    Matrix,
    /// Loads, stores and atomics of global memory, and those by generic addresses.
    Global,
    /// Loads, stores and atomics of shared memory, `ldmatrix`, `stmatrix`.
    Shared,
    /// Loads and stores of local memory.
    Local,
    /// Loads of parameters and constants, `cvta`.
    Parameter,
    /// Asynchronous copies with their groups, prefetches.
    Copy,
    /// `bar`, `barrier`, `mbarrier`, fences.
    Barrier,
    /// What lanes of a warp tell one another: `shfl vote match redux elect activemask`.
    Exchange,
    /// Branches, calls, returns.
    Control,
    /// `mov` and what builds or splits registers.
    Move,
    /// Everything else.
    Other,
}

/// Opcodes of a class whatever the type. Those of arithmetic that are not here are told apart by their type.
const OPCODES: [(Class, &[&str]); 13] = [
    (Class::Matrix, &["mma", "wgmma", "wmma", "tcgen05"]),
    (Class::Shared, &["ldmatrix", "stmatrix", "movmatrix"]),
    (Class::Copy, &["cp", "prefetch", "prefetchu", "createpolicy", "discard", "applypriority"]),
    (Class::Barrier, &["bar", "barrier", "mbarrier", "membar", "fence", "griddepcontrol"]),
    (Class::Exchange, &["shfl", "vote", "match", "redux", "elect", "activemask"]),
    (Class::Control, &["bra", "brx", "call", "ret", "exit", "trap", "brkpt", "nanosleep", "setmaxnreg"]),
    (Class::Conversion, &["cvt"]),
    (Class::Parameter, &["cvta", "isspacep", "mapa", "getctarank"]),
    (Class::Comparison, &["setp", "set", "selp", "slct", "testp"]),
    (Class::Special, &["ex2", "lg2", "sin", "cos", "tanh", "rcp", "rsqrt", "sqrt"]),
    (Class::Move, &["mov"]),
    (Class::Integer, &INTEGER),
    (Class::Other, &["pragma", "pmevent", "alloca", "stacksave", "stackrestore"]),
];

const INTEGER: [&str; 29] = [
    "mul24", "mad24", "sad", "dp4a", "dp2a", "addc", "subc", "madc", "and", "or", "xor", "not", "cnot",
    "shl", "shr", "shf", "lop3", "prmt", "bfe", "bfi", "bfind", "brev", "clz", "popc", "fns", "bmsk",
    "szext", "rem", "vadd",
];

/// Instructions of 2 or 4 integers, without that number.
const PACKED_VIDEO: [&str; 7] = ["vadd", "vsub", "vmin", "vmax", "vavrg", "vabsdiff", "vset"];

/// Arithmetic of which the type says the class.
const ARITHMETIC: [&str; 10] = ["add", "sub", "mul", "mad", "fma", "div", "abs", "neg", "min", "max"];

impl Class {
    /// All, in the order in which they are printed.
    pub const ALL: [Class; 18] = [
        Class::Matrix,
        Class::Float,
        Class::Half,
        Class::Double,
        Class::Special,
        Class::Integer,
        Class::Comparison,
        Class::Conversion,
        Class::Move,
        Class::Exchange,
        Class::Shared,
        Class::Global,
        Class::Local,
        Class::Parameter,
        Class::Copy,
        Class::Barrier,
        Class::Control,
        Class::Other,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Class::Integer => "integer",
            Class::Float => "f32",
            Class::Half => "16-bit float",
            Class::Double => "f64",
            Class::Comparison => "comparison",
            Class::Conversion => "conversion",
            Class::Special => "special function",
            Class::Matrix => "matrix",
            Class::Global => "global memory",
            Class::Shared => "shared memory",
            Class::Local => "local memory",
            Class::Parameter => "parameters",
            Class::Copy => "asynchronous copy",
            Class::Barrier => "barrier",
            Class::Exchange => "lane exchange",
            Class::Control => "control flow",
            Class::Move => "move",
            Class::Other => "other",
        }
    }

    /// The class of an instruction, given as opcode and modifiers, such as `fma.rn.f32`.
    pub fn of(mnemonic: &str) -> Class {
        let mut parts = mnemonic.split('.');
        let opcode = parts.next().unwrap_or("");
        let modifiers: Vec<&str> = parts.collect();
        let ty = modifiers.iter().rev().find(|m| is_type(m)).copied().unwrap_or("");
        match opcode {
            "ld" | "ldu" | "st" | "atom" | "red" | "multimem" => return space(&modifiers),
            "wmma" if modifiers.first() != Some(&"mma") => return space(&modifiers),
            _ if PACKED_VIDEO.contains(&opcode.trim_end_matches(['2', '4'])) => return Class::Integer,
            // Of f64 they are programs of ordinary instructions.
            "rcp" | "rsqrt" | "sqrt" if ty == "f64" => return Class::Double,
            "div" if ty == "f32" => return Class::Special,
            // Barriers of warps and of asynchronous copies begin like others.
            "cp" if modifiers.contains(&"mbarrier") => return Class::Barrier,
            _ => {}
        }
        if let Some((class, _)) = OPCODES.iter().find(|(_, opcodes)| opcodes.contains(&opcode)) {
            return *class;
        }
        let float = opcode == "copysign" || ARITHMETIC.contains(&opcode);
        match ty {
            _ if !float => Class::Other,
            "f32" | "f32x2" => Class::Float,
            "f16" | "f16x2" | "bf16" | "bf16x2" => Class::Half,
            "f64" => Class::Double,
            _ => Class::Integer,
        }
    }
}

/// Whether a modifier is a type of values.
fn is_type(modifier: &str) -> bool {
    let digits = modifier.trim_start_matches(['b', 'f', 's', 'u']);
    digits.len() < modifier.len() && digits.starts_with(|c: char| c.is_ascii_digit())
}

/// The class of an access by the space that it names. Generic addresses count as global ones.
fn space(modifiers: &[&str]) -> Class {
    let named = |space: &str| modifiers.iter().any(|m| m.split("::").next() == Some(space));
    if named("shared") {
        Class::Shared
    } else if named("local") {
        Class::Local
    } else if named("param") || named("const") {
        Class::Parameter
    } else {
        Class::Global
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mnemonics_have_the_class_of_their_unit() {
        for (mnemonic, class) in [
            ("fma.rn.f32", Class::Float),
            ("add.rn.f16x2", Class::Half),
            ("max.bf16x2", Class::Half),
            ("mul.f64", Class::Double),
            ("mul.wide.u32", Class::Integer),
            ("min.s32", Class::Integer),
            ("lop3.b32", Class::Integer),
            ("setp.ge.u32", Class::Comparison),
            ("selp.f32", Class::Comparison),
            ("cvt.rn.bf16x2.f32", Class::Conversion),
            ("cvta.to.global.u64", Class::Parameter),
            ("ex2.approx.ftz.f32", Class::Special),
            ("div.full.f32", Class::Special),
            ("div.s32", Class::Integer),
            ("rcp.rn.f64", Class::Double),
            ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", Class::Matrix),
            ("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16", Class::Matrix),
            ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", Class::Shared),
            ("wmma.load.a.sync.aligned.row.m16n16k16.shared.f16", Class::Shared),
            ("wmma.store.d.sync.aligned.row.m16n16k16.global.f32", Class::Global),
            ("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32", Class::Matrix),
            ("vabsdiff4.u32.u32.u32.add", Class::Integer),
            ("ld.shared.v4.b32", Class::Shared),
            ("ld.shared::cta.b32", Class::Shared),
            ("ld.global.nc.L1::no_allocate.v4.b32", Class::Global),
            ("st.global.b16", Class::Global),
            ("ld.b32", Class::Global),
            ("atom.shared.add.u32", Class::Shared),
            ("red.global.add.f32", Class::Global),
            ("ld.param.b64", Class::Parameter),
            ("st.local.b32", Class::Local),
            ("cp.async.cg.shared.global.L2::128B", Class::Copy),
            ("cp.async.mbarrier.arrive.noinc.shared.b64", Class::Barrier),
            ("bar.sync", Class::Barrier),
            ("shfl.sync.bfly.b32", Class::Exchange),
            ("bra.uni", Class::Control),
            ("mov.b32", Class::Move),
            ("copysign.f32", Class::Float),
            ("something.new", Class::Other),
        ] {
            assert_eq!(Class::of(mnemonic), class, "{mnemonic}");
        }
    }

    #[test]
    fn every_class_is_listed_once() {
        let mut all = Class::ALL.to_vec();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Class::ALL.len());
        assert_eq!(Class::Other as usize + 1, Class::ALL.len());
    }
}
