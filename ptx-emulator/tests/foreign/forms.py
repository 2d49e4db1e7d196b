"""Asks NVIDIA's assembler which forms of instructions there are, and writes its answers to a file.

The candidates are forms of `src/decode/forms.txt`, and forms that are changed in one place: a modifier less, one of another form of the instruction
more, or one in the place of another. Each is asked with every list of operands that the instruction may have, for every target. Modifiers stand in the
order of the grammar and none stands twice: the assembler takes others too, in whatever order, and its answer would mean nothing.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from operands import statements

HERE = Path(__file__).parent
TARGETS = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_120"]
# The version of the PTX manual whose forms the grammar has. `TARGET` and `LINES` are replaced, the latter in the last line.
HEAD = """.version 9.1
.target TARGET
.address_size 64
.func plain() { ret; }
.func takes(.param .align 16 .b8 par[64]) { ret; }
.func (.param .align 16 .b8 par[64]) gives() { ret; }
.visible .entry k(.param .align 128 .b8 arg[256]) {
.reg .pred %p<9>; .reg .b16 %h<300>; .reg .b32 %r<300>; .reg .f32 %f<300>; .reg .b64 %l<300>; .reg .f64 %e<300>; .reg .b128 %q<300>;
.param .align 16 .b8 par[64];
T: .branchtargets L;
P: .callprototype _ ();
L:
LINES
ret; }
"""
FIRST_LINE = HEAD[: HEAD.index("LINES")].count("\n") + 1
# Candidates of one form, of each sort.
DRAWN = 24
# Lines that the assembler reads at once.
BATCH = 2000


def grammar():
    """The lines of the grammar as (opcode, text, first target, places); a place has the modifiers that it takes, and whether it may be empty."""
    sets, forms = {}, []
    for line in (HERE / "../../src/decode/forms.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if " = " in line:
            name, text = line.split(" = ")
            sets[name] = [m[1:] for m in text.split("|")]
            continue
        text, _, target = line.partition("  @")
        opcode, rest = re.match(r"(\w+)(\S*)", text).groups()
        places = []
        for place in re.findall(r"\{[^}]*\}|\([^)]*\)|<\w+>|\.[\w:]+", rest):
            names = []
            for name in place.strip("{}()").split("|"):
                names += sets[name.strip("<>")] if name[0] == "<" else [name[1:]]
            places.append((names, place[0] == "{"))
        forms.append((opcode, text, target, places))
    return forms


class Order:
    """In which order the forms of one opcode have modifiers."""

    def __init__(self, forms):
        self.names = sorted({name for places in forms for names, _ in places for name in names})
        self.after = {name: set() for name in self.names}
        for places in forms:
            for at, (names, _) in enumerate(places):
                for name in names:
                    self.after[name].update(*(later for later, _ in places[at + 1 :]))
        # What comes after something that comes after it does too, where no form says otherwise.
        self.somewhere_after = {name: set(after) for name, after in self.after.items()}
        for middle in self.names:
            for name in self.names:
                if middle in self.somewhere_after[name]:
                    self.somewhere_after[name] |= self.somewhere_after[middle]

    def has(self, modifiers):
        """Whether each pair stands as some form has it, and no modifier stands twice where no form has it twice."""
        pairs = [(a, b) for at, a in enumerate(modifiers) for b in modifiers[at + 1 :]]
        return all(b in self.after[a] or b in self.somewhere_after[a] and a not in self.after[b] and a != b for a, b in pairs)


def right(places, draw):
    """Expansions of a form: each modifier of each place at least once, and others drawn."""
    every = [[*names, *([None] if may_lack else [])] for names, may_lack in places]
    for at, choices in enumerate(every):
        for choice in choices:
            drawn = [draw.choice(others) for others in every]
            drawn[at] = choice
            yield [name for name in drawn if name]
    for _ in range(DRAWN):
        yield [name for name in map(draw.choice, every) if name]


def changed(modifiers, order, draw):
    """One modifier less, more or another."""
    at, name = draw.randrange(len(modifiers) + 1), draw.choice(order.names or [""])
    one = draw.choice([modifiers[:at] + modifiers[at + 1 :], modifiers[:at] + [name] + modifiers[at:], modifiers[:at] + [name] + modifiers[at + 1 :]])
    return one if order.has(one) else None


def candidates(forms):
    """What each form gives unchanged, and all that is to be asked."""
    draw = random.Random(2511)
    by_opcode = {}
    for opcode, _, _, places in forms:
        by_opcode.setdefault(opcode, []).append(places)
    orders = {opcode: Order(all) for opcode, all in by_opcode.items()}
    unchanged, asked = [], {}
    for opcode, text, target, places in forms:
        mine = list(right(places, draw))
        drawn = (changed(draw.choice(mine), orders[opcode], draw) for _ in range(16 * DRAWN) if orders[opcode].names)
        others = [one for one in drawn if one is not None][: 2 * DRAWN]
        mnemonics = {".".join([opcode, *modifiers]): (opcode, modifiers) for modifiers in mine}
        asked |= mnemonics | {".".join([opcode, *modifiers]): (opcode, modifiers) for modifiers in others}
        unchanged.append({"form": text, "target": target, "mnemonics": sorted(mnemonics)})
    return unchanged, asked


def assembled(assembler, target, text, lines):
    """Those lines that the assembler takes; `text` is a file for it."""
    while lines:
        text.write_text(HEAD.replace("TARGET", target).replace("LINES", "\n".join(lines)))
        # For a virtual architecture it reads and checks, and generates no code.
        command = [assembler, f"-arch={target.replace('sm', 'compute')}", "-O0", "-o", os.devnull, text]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
        wrong = {int(n) - FIRST_LINE for n in re.findall(rf"{re.escape(str(text))}, line (\d+); (?:error|fatal)", done.stdout + done.stderr)}
        if not wrong:
            # It names a line of its own macros or none, or ends by a signal, as for some bulk sums that do not exist: the halves show which line it is.
            half = len(lines) // 2
            return [] if half == 0 else assembled(assembler, target, text, lines[:half]) + assembled(assembler, target, text, lines[half:])
        if min(wrong) < 0 or max(wrong) >= len(lines):
            raise SystemExit(f"not of the candidates:\n{done.stdout}{done.stderr}")
        lines = [line for at, line in enumerate(lines) if at not in wrong]
    return lines


def toolkit():
    import nvidia.cu13

    return Path(list(nvidia.cu13.__path__)[0]) / "bin/ptxas"


def main(folder):
    unchanged, asked = candidates(grammar())
    lines = {mnemonic: list(statements(*parts)) for mnemonic, parts in asked.items()}
    every = sorted({line for some in lines.values() for line in some})
    taken = {target: set() for target in TARGETS}
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [(target, at) for target in TARGETS for at in range(0, len(every), BATCH)]
        batch = lambda job: assembled(toolkit(), job[0], Path(work) / f"{job[0]}.{job[1]}.ptx", every[job[1] : job[1] + BATCH])
        for (target, _), some in zip(jobs, pool.map(batch, jobs)):
            taken[target].update(some)
    answers = {mnemonic: {line: [target for target in TARGETS if line in taken[target]] for line in some} for mnemonic, some in lines.items()}
    file = {"targets": TARGETS, "text": HEAD, "forms": unchanged, "lines": answers}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "forms.json").write_text(json.dumps(file))
    there = sum(any(some.values()) for some in answers.values())
    print(f"{len(answers)} forms in {len(every)} statements for {len(TARGETS)} targets; {there} of them exist")


if __name__ == "__main__":
    main(sys.argv[1])
