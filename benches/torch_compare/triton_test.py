"""Checks the Triton kernels on the CPU, in Triton's interpreter, against the formulas: python3 -m torch_compare.triton_test.

Needs PyTorch and Triton, and no GPU. Only f16: the interpreter of Triton 3.9 multiplies bf16 as if it were integers. Exit codes: 0 good, or one of the two is missing; 1 a result is wrong.
"""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

# Batch, heads, seq and dim; causal or not; and which configurations of the autotuner, of 12 each: all of them once.
WORKLOADS = [((1, 1, 256, 64), True, range(0, 12, 2)), ((1, 1, 256, 64), False, range(1, 12, 2)), ((2, 2, 128, 64), True, [4]),
             ((1, 1, 256, 128), True, [10]), ((1, 1, 256, 128), False, [2])]


def main():
    try:
        import torch
        import triton
        from . import triton_kernel
    except (ImportError, OSError) as error:
        print(f"skipped: {error}")
        return 0
    from .peers import check

    kernels = [triton_kernel.triton_forward, triton_kernel.triton_dkdv, triton_kernel.triton_dq]
    every = [kernel.configs for kernel in kernels]
    torch.manual_seed(0)
    wrong, checked = [], 0
    for shape, causal, turns in WORKLOADS:
        # The interpreter tunes nothing: each kernel runs with the one configuration that it is given.
        for turn in turns:
            for kernel, configs in zip(kernels, every):
                kernel.configs = [configs[turn]]
                kernel.cache.clear()
            inputs = [torch.randn(shape).half() for _ in range(4)]
            attention = triton_kernel.TritonAttention(torch, *inputs[:3], causal)
            results = {"out": attention.forward()}
            results |= dict(zip(["dq", "dk", "dv"], attention.backward(inputs[3])))
            case = dict(zip(["batch", "heads", "seq", "dim"], shape), causal=causal)
            wrong += check(torch, case, "f16", results, inputs)
            checked += 1
    for words in wrong:
        print(f"error: {words}", file=sys.stderr)
    print(f"Triton {triton.__version__}, PyTorch {torch.__version__}: {checked} workloads, {len(wrong)} results wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
