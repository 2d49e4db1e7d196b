#!/usr/bin/env python3
"""Compares this library with PyTorch's attention on one GPU, in one process and one run.

It loads the C interface (libflash_attention_c.so) and first checks its results, forward and backward, against the formulas in
float64. Then it times ours against the backends of scaled_dot_product_attention (cuDNN, flash, efficient, math) and flash kernels in
Triton where Triton is installed. All take turns (A B C A B C), each run with a cold L2 cache, by CUDA events, after the host has put
all of it onto the stream. It prints ratios, and writes JSON and a picture.

    cargo build --release -p flash-attention-c
    python3 benches/compare_torch.py                 # needs PyTorch and a GPU; says so and ends with 0 where one is missing
    python3 benches/compare_torch.py --self-test     # needs neither

Exit codes: 0 good, or nothing to measure on; 1 a check or a measurement failed (no file is written); 2 usage.
"""

import argparse
import datetime
import json
import pathlib
import platform
import sys

from torch_compare.interface import Library
from torch_compare.peers import measure, triton
from torch_compare.plan import PEERS, cases, first_line, label
from torch_compare.report import picture, ratios, write_whole
from torch_compare.self_test import self_test

HERE = pathlib.Path(__file__).resolve().parent
LIBRARY = "libflash_attention_c.so"
# Where cargo and `cargo xtask dist` put the library.
PLACES = [HERE.parent / "target/release" / LIBRARY, HERE.parent / "lib" / LIBRARY]
# More than the L2 cache of any GPU so far.
FLUSH_BYTES = 512 << 20


def environment(torch, library, setup):
    """What the numbers mean nothing without."""
    properties = torch.cuda.get_device_properties(setup.device)
    driver = pathlib.Path("/proc/driver/nvidia/version")
    first = driver.read_text(encoding="utf-8").splitlines()[0].split() if driver.exists() else []
    version = next((word for word in first if "." in word and word[0].isdigit()), None)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join(["compare_torch.py", *sys.argv[1:]]),
        "version": library.version(), "device": f"cuda:{setup.device}",
        "description": f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
                       f"{properties.total_memory / 2**30:.1f} GiB",
        "driver": version, "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(), "triton": triton.__version__ if triton else None,
        "dtype": setup.dtype, "warmup": setup.warmup, "repeats": setup.repeats, "cold_l2": True}


def compare(torch, library, setup):
    """Every preset: prints it, and writes its files. 0, or 1 where something failed."""
    torch.cuda.set_device(setup.device)
    library.open_cuda(setup.device)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    conditions = environment(torch, library, setup)
    for preset in setup.presets:
        rows, failures, refusals = [], [], {}
        for case in cases(preset, setup.quick):
            print(f"{preset}: {label(case)}", file=sys.stderr)
            measured, wrong = measure(torch, library, case, setup, flush, refusals)
            rows += measured
            failures += wrong
        if triton is None and "triton" in setup.peers:
            refusals["triton"] = "Triton is not installed, or cannot be loaded"
        heading = f"{preset}, {setup.dtype}: {conditions['description']}, torch {conditions['torch']}, {conditions['date']}"
        print(heading)
        if rows:
            print(ratios(rows))
        notes = [f"not measured: {who}: {words}" for who, words in refusals.items()]
        for note in notes:
            print(note)
        for words in failures:
            print(f"error: {words}", file=sys.stderr)
        if failures:
            return 1
        name = conditions["description"].split(",")[0].removeprefix("NVIDIA ").replace(" ", "-").lower()
        stem = f"torch-{preset}-{name}-{setup.dtype}-{conditions['date'][:10]}"
        setup.results.mkdir(parents=True, exist_ok=True)
        report = {"preset": preset, **conditions, "notes": notes, "results": rows}
        write_whole(setup.results / f"{stem}.json", json.dumps(report, indent=2) + "\n")
        write_whole(setup.results / f"{stem}.svg", picture(heading, rows))
        print(f"written: {setup.results / stem}.json and .svg")
    return 0


def arguments(line=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET",
                        help="sweep (batch * seq = 16384, hidden 2048, d 64, 128 and 256, causal and not) or tutorial (32 x 32 x 1024, "
                             "d 32); default: both")
    parser.add_argument("--dtype", choices=["f16", "bf16"], default="f16", help="type of the tensors (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="who is measured beside ours (default: %(default)s)")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="ordinal of the GPU (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=30, metavar="N", help="runs that count (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="runs before them (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer workloads: to see that it works, not for numbers")
    parser.add_argument("--library", type=pathlib.Path, metavar="FILE", help=f"{LIBRARY} (default: where cargo or the package has it)")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", metavar="FOLDER",
                        help="where JSON and picture go (default: results, beside this script)")
    parser.add_argument("--self-test", action="store_true", help="check what needs neither PyTorch nor a GPU, and nothing else")
    setup = parser.parse_args(line)
    setup.presets = setup.presets or ["sweep", "tutorial"]
    setup.peers = [peer for peer in setup.peers.split(",") if peer]
    for what, given, allowed in [("preset", setup.presets, ["sweep", "tutorial"]), ("peer", setup.peers, PEERS)]:
        for name in given:
            if name not in allowed:
                parser.error(f"'{name}' is not a {what}; allowed are {', '.join(allowed)}")
    if setup.repeats < 1 or setup.warmup < 0 or setup.device < 0:
        parser.error("--repeats must be at least 1, --warmup and --device at least 0")
    return setup


def main():
    setup = arguments()
    library = setup.library or next((place for place in PLACES if place.is_file()), None)
    if not setup.self_test:
        try:
            import torch
        except ImportError:
            print("PyTorch is not installed, so nothing was compared.")
            return 0
        # A shared library of its own that the loader does not find.
        except OSError as error:
            print(f"PyTorch cannot be loaded ({first_line(error)}), so nothing was compared.")
            return 0
        if not torch.cuda.is_available():
            print("PyTorch finds no GPU, so nothing was compared.")
            return 0
    if library is None or not library.is_file():
        print(f"error: there is no {library or LIBRARY}: cargo build --release -p flash-attention-c makes it, --library names it",
              file=sys.stderr)
        return 2
    try:
        if setup.self_test:
            self_test(library.resolve())
            return 0
        return compare(torch, Library(library.resolve()), setup)
    except RuntimeError as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
