"""Compiles the CUDA and Triton kernels of this folder, and writes them with inputs and expected results into a folder.

Needs the packages of `requirements.txt` and, for nvcc, a C++ compiler; no GPU and no driver. sm_70 is NVRTC's, later targets are nvcc's.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import cuda_cases
import triton_cases
from cases import Writer, i32, scalar
from nvrtc import Nvrtc

HERE = Path(__file__).parent
# nvcc 13 begins at sm_75; below, NVRTC 12.9 compiles the same files. The last one is a debug build: nothing is inlined, variables live in local memory.
NVCC_TARGETS = [(75, "sm_75", []), (80, "sm_80", []), (89, "sm_89", []), (90, "sm_90", []), (90, "sm_90a", []), (80, "sm_80", ["-G", "-O0"])]
NVRTC_TARGETS = [(70, "sm_70")]
TRITON_TARGETS = [80, 89, 90]


def toolkit():
    import nvidia.cu13

    return Path(list(nvidia.cu13.__path__)[0])


def is_new(out, *sources):
    return out.exists() and out.stat().st_mtime > max((HERE / f).stat().st_mtime for f in (*sources, "requirements.txt"))


def nvcc(source, target, flags, out):
    if is_new(out, f"{source}.cu"):
        return
    root = toolkit()
    include = root / "include"
    command = [root / "bin/nvcc", "-ptx", "-std=c++17", *(flags or ["-O3"]), f"-arch={target}", f"-I{include}", f"-I{include}/cccl",
               # wmma of 4 bits and of 1 bit is on its way out.
               "-Wno-deprecated-declarations", "-diag-suppress=1444", "-o", out, HERE / f"{source}.cu"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"nvcc {source}.cu for {target} {' '.join(flags)}:\n{done.stdout}{done.stderr}")


def cuda(writer):
    compiler = f"nvcc {version('nvidia-cuda-nvcc')}"
    cases = list(cuda_cases.all())
    jobs = {}
    for source in sorted({case.source for case in cases}):
        for least, target, flags in NVCC_TARGETS:
            jobs[source, target, bool(flags)] = (source, target, flags, writer.folder / f"{source}.{target}{'.debug' if flags else ''}.ptx")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: nvcc(*job), jobs.values()))
    library = Nvrtc()
    for source in sorted({case.source for case in cases if case.least < NVCC_TARGETS[0][0]}):
        for _, target in NVRTC_TARGETS:
            out = writer.folder / f"{source}.{target}.ptx"
            if not is_new(out, f"{source}.cu", "nvrtc.py"):
                out.write_text(library.compile(HERE / f"{source}.cu", target))
    for case in cases:
        writer.data(case)
        for number, target in NVRTC_TARGETS:
            if number >= case.least:
                writer.add(case, f"NVRTC {version('nvidia-cuda-nvrtc-cu12')}", target, f"{case.source}.{target}.ptx")
        for number, target, flags in NVCC_TARGETS:
            if number >= case.least:
                ptx = jobs[case.source, target, bool(flags)][3].name
                writer.add(case, compiler, target + (" -G" if flags else ""), ptx)


NUMBERS = {"i32": "i", "i64": "q", "fp32": "f"}


def triton_case(job):
    t, number, folder = job
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, attributes, args = {}, {}, []
    for place, name in enumerate(t.kernel.arg_names):
        given = t.parameters.get(name)
        if name in t.descriptors:
            _, block = t.descriptors[name]
            signature[name] = f"tensordesc<{triton_cases.TYPES[t.case.buffers[given].dtype]}{list(block)}>"
        elif given is None:
            signature[name] = "constexpr"
        elif isinstance(given, str):
            signature[name] = "*" + triton_cases.TYPES[t.case.buffers[given].dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = given[0]
            if given[0] != "fp32" and given[1] % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=t.kernel, signature=signature, constexprs=t.constants, attrs=attributes)
    options = {"num_warps": t.warps, "num_stages": t.stages, "num_ctas": t.blocks}
    compiled = triton.compile(source, target=GPUTarget("cuda", number, 32), options=options)
    m = compiled.metadata
    maps = iter(m.tensordesc_meta or [])
    for name in t.kernel.arg_names:
        given = t.parameters.get(name)
        if name in t.descriptors:
            args += descriptor(given, t.case.buffers[given], t.descriptors[name][0], next(maps))
        elif isinstance(given, str):
            args.append(given)
        elif given is not None:
            args.append(scalar(NUMBERS[given[0]], given[1]))
    grid = t.case.launches[0].grid
    blocks = (grid if isinstance(grid, tuple) else (grid,))
    # Memory for a kernel's own use, at the end of its parameters.
    scratch = [{"scratch": m.global_scratch_size * t.blocks * int(np_product(blocks))}, {"scratch": m.profile_scratch_size}]
    name = f"{t.case.name}.{number}.ptx"
    (folder / name).write_text(compiled.asm["ptx"])
    grid = (blocks[0] * t.blocks, *blocks[1:])
    return name, grid, 32 * m.num_warps, args + scratch, m.shared


def np_product(values):
    product = 1
    for v in values:
        product *= v
    return product


def descriptor(name, array, shape, meta):
    """A tensor map, then the shape and the strides."""
    strides = [shape[1], 1]
    box = list(meta["block_size"])[::-1]
    tensor = {"buffer": name, "type": meta["elem_type"], "swizzle": meta["swizzle"], "shape": list(shape)[::-1],
              "stride": shape[1] * array.itemsize, "box": box}
    return [{"map": tensor}, *[i32(s) for s in shape], *[scalar("q", s) for s in strides]]


def triton(writer):
    compiler = f"Triton {version('triton')}"
    for t in triton_cases.all():
        t.case.name = f"triton_{t.case.name}"
        writer.data(t.case)
        for number in TRITON_TARGETS:
            if number >= t.least:
                ptx, grid, block, args, shared = triton_case((t, number, writer.folder))
                launch = t.case.launches[0]
                launch.grid, launch.block, launch.args, launch.shared = grid, block, args, shared
                writer.add(t.case, compiler, f"sm_{number}{'a' if number == 90 else ''}", ptx)


if __name__ == "__main__":
    writer = Writer(sys.argv[1])
    writer.folder.mkdir(parents=True, exist_ok=True)
    cuda(writer)
    triton(writer)
    writer.finish()
    print(f"{len(writer.cases)} cases in {writer.folder}")
