"""What is measured, how often, and what a result may be off. Nothing here needs PyTorch."""

PASSES = ["forward", "backward"]
OURS = "ours"
PEERS = ["cudnn", "flash", "efficient", "math", "triton"]
# Code of fa_tensor.dtype, name in PyTorch, and what an element may be off beyond twice the error of an equally precise reference, as a
# part of the largest expected value: the rule of the golden cases.
DTYPES = {"f16": (1, "float16", 1 / 1024), "bf16": (2, "bfloat16", 1 / 128), "f32": (0, "float32", 2e-5)}


def cases(preset, quick):
    """The workloads of a preset of `bench`, in its order: batch, heads, seq, dim, causal."""
    if preset == "tutorial":
        batch, heads = (4, 8) if quick else (32, 32)
        return [{"batch": batch, "heads": heads, "seq": 1024, "dim": 32, "causal": False}]
    lengths = [512, 4096] if quick else [512, 1024, 2048, 4096, 8192, 16384]
    return [{"batch": 16384 // seq, "heads": 2048 // dim, "seq": seq, "dim": dim, "causal": causal}
            for dim in [64, 128, 256] for causal in [False, True] for seq in lengths]


def label(case):
    return f"{case['batch']}x{case['heads']}x{case['seq']} d{case['dim']}{' causal' if case['causal'] else ''}"


def flops(case, name):
    """Floating-point operations: two products forward, five backward; causal counts the keys that a query sees on average."""
    keys = (case["seq"] + 1) / 2 if case["causal"] else case["seq"]
    forward = 4 * case["batch"] * case["heads"] * case["seq"] * keys * case["dim"]
    return forward if name == "forward" else 2.5 * forward


def summary(seconds):
    """The median (of an even number the mean of the middle two), with the least and the largest."""
    ordered, middle = sorted(seconds), len(seconds) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": median, "min": ordered[0], "max": ordered[-1], "repeats": len(ordered)}


def in_turn(works, warmup, repeats, time):
    """Times each work with time(work); they take turns. One that fails is not run again; its words come in place of times."""
    taken, failed = {name: [] for name in works}, {}
    for turn in range(warmup + repeats):
        for name, work in works.items():
            if name in failed:
                continue
            try:
                seconds = time(work)
            except RuntimeError as error:
                failed[name] = first_line(error)
                continue
            if turn >= warmup:
                taken[name].append(seconds)
    return {name: failed.get(name) or summary(taken[name]) for name in works}


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def bound(dtype, largest, reference_error):
    """What the largest error may be: the rule of the golden cases."""
    return 2 * reference_error + DTYPES[dtype][2] * max(1.0, largest)
