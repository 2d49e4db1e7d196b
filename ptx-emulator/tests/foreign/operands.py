"""Operands for candidate instructions: every list of operands that an opcode may have, for given modifiers."""

import itertools
import re

TERNARY = ["!wide? s, s, s, s", "wide? w, s, s, w", "!wide? d, s, s, d"]
SIMD = [f"v{name}{count}" for name in ("add", "sub", "min", "max", "avrg", "absdiff", "set") for count in (2, 4)]
# What may stand after an opcode. Each letter is a register: `d` of the first type, `s` of the last, `w` of twice the width of the last, `v` a vector of
# the last type, `p h r f l` of this kind (predicate, 16, 32 bits, f32, 64 bits). `@` is an address in a register, `#` are coordinates of a tensor.
# Before `? ` stands a modifier without which (after `!`: with which) nobody writes it so. Before `): ` and after ` :` stands what it needs around it.
# Registers have the width of the type: the emulator converts others, which the assembler refuses.
OPERANDS = {
    **dict.fromkeys("addc subc add sub mul mul24 div rem copysign and or xor".split(), ["!wide? s, s, s", "wide? w, s, s", "!wide? d, s, d"]),
    **dict.fromkeys("mad madc mad24 sad fma".split(), TERNARY),
    **dict.fromkeys("min max".split(), ["s, s, s", "s, s, s, s"]),
    **dict.fromkeys(["dp2a", "dp4a", *SIMD], ["r, r, r, r"]),
    **dict.fromkeys("abs neg rcp sqrt rsqrt ex2 lg2 sin cos tanh not cnot brev".split(), ["s, s"]),
    **dict.fromkeys("shl shr".split(), ["s, s, r"]),
    **dict.fromkeys("popc clz bfind".split(), ["r, s"]),
    **dict.fromkeys("shf fns prmt".split(), ["r, r, r, r"]),
    **dict.fromkeys("bmsk szext".split(), ["r, r, r"]),
    **dict.fromkeys("trap brkpt ret exit membar griddepcontrol".split(), [""]),
    "testp": ["p, s"], "lop3": ["r, r, r, r, 0x96", "r|p, r, r, r, 0x96, p"], "bfe": ["s, s, r, r"], "bfi": ["s, s, s, r, r"],
    "setp": ["p, s, s", "p|p, s, s", "p, s, s, p", "p|p, s, s, p"], "set": ["d, s, s", "d, s, s, p"], "selp": ["s, s, s, p"], "slct": ["d, d, d, s"],
    "mov": ["s, s"], "cvt": ["!pack? d, s", "!pack? d, s, s", "pack? r, r, r", "pack? r, r, r, r"], "cvta": ["s, s"], "isspacep": ["p, l"],
    "ld": ["!param? !param::entry? !param::func? v, @", "L2::cache_hint? v, @, l", "param? v, [arg]", "param::entry? v, [arg]", "param? call (par), gives, (): v, [par]",
           "param::func? call (par), gives, (): v, [par]"],
    "ldu": ["v, @"],
    "st": ["!async? !param? !param::func? @, v", "L2::cache_hint? @, v, l", "async? @, v, @", "param? [par], v: call takes, (par)", "param::func? [par], v: call takes, (par)"],
    "atom": ["!L2::cache_hint? !cas? v, @, v", "!L2::cache_hint? cas? v, @, v, v", "L2::cache_hint? !cas? v, @, v, l", "L2::cache_hint? cas? v, @, v, v, l"],
    "red": ["!async? @, v", "L2::cache_hint? @, v, l", "async? @, v, @"],
    "fence": ["", "@, 128"], "prefetch": ["@"], "prefetchu": ["@"], "applypriority": ["@, 128"], "discard": ["@, 128"],
    "createpolicy": ["l", "l, 0.5", "l, @, 1024, 2048", "l, 0x10000000"], "nanosleep": ["r"], "pmevent": ["1"],
    "shfl": ["r, r, r, r, -1", "r|p, r, r, r, -1"], "vote": ["p, p, -1", "r, p, -1"], "match": ["r, s, -1", "r|p, s, -1"], "redux": ["s, s, -1"],
    "elect": ["r|p, -1"], "activemask": ["r"], "bar": ["1", "1, 64", "r, 1, 64, p", "p, 1, 64, p", "warp? -1"],
    "barrier": ["", "1", "1, 64", "r, 1, 64, p", "p, 1, 64, p"], "bra": ["L"], "brx": ["r, T"], "call": ["plain", "plain, ()", "l, (), P"],
    "alloca": ["s, s", "s, s, 16"], "stacksave": ["s"], "stackrestore": ["s"],
    "ldmatrix": ["{r}, @", "{r, r}, @", "{r, r, r, r}, @"], "stmatrix": ["@, {r}", "@, {r, r}", "@, {r, r, r, r}"], "movmatrix": ["r, r"],
    "cp": ["", "1", "@", "@, @, 16", "!reduce? @, @, 4", "L2::cache_hint? @, @, 16, l", "@, @, r, @", "L2::cache_hint? @, @, r, @, l",
           "multicast::cluster? @, @, r, @, h", "multicast::cluster? L2::cache_hint? @, @, r, @, h, l", "@, @, r", "L2::cache_hint? @, @, r, l", "@, r", "L2::cache_hint? @, r, l",
           "mbarrier::complete_tx::bytes? @, [l, #], @", "L2::cache_hint? @, [l, #], @, l",
           "multicast::cluster? @, [l, #], @, h", "multicast::cluster? L2::cache_hint? @, [l, #], @, h, l",
           "bulk_group? [l, #], @", "L2::cache_hint? [l, #], @, l", "[l, #]", "L2::cache_hint? [l, #], l"],
    "mbarrier": ["@", "@, 4", "l, @", "_, @", "l, @, 1", "_, @, 16", "p, @, 1", "!parity? p, @, l", "parity? p, @, r", "r, l"],
    "tensormap": ["b64? @, l", "b32? @, r", "@, 1", "b32? @, 1, r", "b64? @, 1, l", "@, @, 128"],
    "mapa": ["s, s, r"], "getctarank": ["r, s"], "setmaxnreg": ["240"],
}
KINDS = {"pred": "p", "f16": "h", "bf16": "h", "f32": "f", "f64": "e", "e4m3x2": "h", "e5m2x2": "h", "f32x2": "l", "tf32": "r",
         "f16x2": "r", "bf16x2": "r", "u16x2": "r", "s16x2": "r", "u4": "r", "s4": "r", "u2": "r", "s2": "r", "b1": "r", "e4m3": "r", "e5m2": "r"}
BY_BITS = {"8": "h", "16": "h", "32": "r", "64": "l", "128": "q"}
WIDER = {"h": "r", "r": "l", "l": "q"}
# Bits of an element of a matrix.
WIDTHS = {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "s32": 32, "f64": 64, "e4m3": 8, "e5m2": 8, "u8": 8, "s8": 8, "u4": 4, "s4": 4, "b1": 1}
SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")


def kind(modifier):
    """The kind of register of a type, or nothing if it is none."""
    bits = re.fullmatch(r"[usb](8|16|32|64|128)", modifier)
    return KINDS.get(modifier) or (bits and BY_BITS[bits[1]])


def fragment(element, elements, lanes=32):
    """A vector of the registers in which each of `lanes` has its part of so many elements."""
    bits = max(elements * WIDTHS[element] // lanes, 1)
    name, size = {"f32": ("f", 32), "f64": ("e", 64)}.get(element, ("r", 32))
    return "{" + ", ".join([name] * max(bits // size, 1)) + "}"


def shape(modifiers):
    return next((tuple(map(int, m.groups())) for m in map(SHAPE.fullmatch, modifiers) if m), (16, 8, 16))


def mma(modifiers):
    m, n, k = shape(modifiers)
    types = [x for x in modifiers if x in WIDTHS]
    d, a, b, c = types if len(types) == 4 else ["f32", "f16", "f16", "f32"]
    # The four quads of m8n8k4 multiply f16 of their own.
    lanes = 8 if (m, n, k) == (8, 8, 4) and a == "f16" else 32
    for part, more in ((1, ""), (2, ", r, 0x0")):
        parts = [fragment(d, m * n, lanes), fragment(a, m * k // part, lanes), fragment(b, n * k, lanes), fragment(c, m * n, lanes)]
        yield ", ".join(parts) + more


def wmma_part(part, element, m, n, k):
    if part in "cd":
        return fragment(element, m * n)
    if element == "f16":
        # Whatever the shape, some of it several times.
        return "{r, r, r, r, r, r, r, r}"
    return fragment(element, (m if part == "a" else n) * k)


def wmma(modifiers):
    m, n, k = shape(modifiers)
    types = [x for x in modifiers if x in WIDTHS] or ["f16"]
    if modifiers[:1] == ["mma"]:
        d, a, b, c = types if len(types) == 4 else [types[0], "f16", "f16", types[-1]]
        yield ", ".join(wmma_part(*one, m, n, k) for one in (("d", d), ("a", a), ("b", b), ("c", c)))
        return
    for part in "abcd":
        if part in modifiers:
            vector = wmma_part(part, types[0], m, n, k)
            for stride in ("", ", r"):
                yield f"@, {vector}{stride}" if "store" in modifiers else f"{vector}, @{stride}"


def wgmma(modifiers):
    if "mma_async" not in modifiers:
        return ["", "1"]
    m, n, _ = shape(modifiers)
    types = [x for x in modifiers if x in WIDTHS] or ["f32"]
    d = fragment(types[0], m * n, 128)
    a_registers = "{r, r, r, r}"
    scales = ["", ", 1, 1", ", 1, 1, 0", ", 1, 1, 0, 0"]
    return [f"{d}, {a}, l, p{scale}" for a in ("l", a_registers) for scale in scales]


MATRICES = {"mma": mma, "wmma": wmma, "wgmma": wgmma}


def statements(opcode, modifiers):
    """The candidate with each list of operands."""
    kinds = [k for k in map(kind, modifiers) if k] or ["r"]
    count = next((int(m[1]) for m in modifiers if re.fullmatch(r"v[248]", m)), 1)
    dimensions = next((int(m[0]) for m in modifiers if re.fullmatch(r"[1-5]d", m)), 2)
    names = {"d": kinds[0], "s": kinds[-1], "w": WIDER.get(kinds[-1], "q")}
    mnemonic = ".".join([opcode, *modifiers])
    templates = MATRICES[opcode](modifiers) if opcode in MATRICES else OPERANDS[opcode]
    for template in templates:
        *conditions, template = template.split("? ")
        if not all((c[1:] not in modifiers) if c[0] == "!" else c in modifiers for c in conditions):
            continue
        number = itertools.count(1)

        def register(name):
            return f"%{name}{next(number) % 8 + 1 if name == 'p' else next(number)}"

        def operand(found):
            word = found[0]
            if word == "v":
                elements = [register(kinds[-1]) for _ in range(count)]
                return elements[0] if count == 1 else "{" + ", ".join(elements) + "}"
            if word == "#":
                return "{" + ", ".join(register("r") for _ in range(dimensions)) + "}"
            return f"[{register('l')}]" if word == "@" else register(names.get(word, word))

        before, _, rest = template.rpartition("): ")
        before = before and before + "); "
        text, _, after = rest.partition(": ")
        text = re.sub(r"(?<![a-z0-9_])[dswvphrfleq](?![a-z0-9_])|[@#]", operand, text)
        yield f"{before}{mnemonic} {text};{after and f' {after};'}"
