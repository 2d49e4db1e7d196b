"""Compiles CUDA C++ with NVRTC 12.9, the last one that knows sm_70.

NVRTC is a library and has no headers of a host: those of the C and C++ libraries that the kernels include come from here.
"""

import ctypes
import sys
from pathlib import Path

HEADERS = {
    "cassert": """#pragma once
extern "C" __device__ void __assertfail(const char *, const char *, unsigned, const char *, size_t);
#define assert(condition) ((condition) ? (void)0 : __assertfail(#condition, __FILE__, __LINE__, __func__, sizeof(char)))
""",
    "cstdint": "#include <cuda/std/cstdint>\nusing namespace cuda::std;\n",
    "cstdio": "",
    "type_traits": "#include <cuda/std/type_traits>\nnamespace std { using namespace cuda::std; }\n",
}


def strings(all):
    return (ctypes.c_char_p * len(all))(*[text.encode() for text in all])


class Nvrtc:
    def __init__(self):
        import nvidia

        root = next(Path(p) for p in nvidia.__path__ if (Path(p) / "cuda_nvrtc").is_dir())
        folder = root / "cuda_nvrtc" / ("bin" if sys.platform == "win32" else "lib")
        self.library = ctypes.CDLL(str(next(f for f in sorted(folder.iterdir()) if f.name in ("libnvrtc.so.12", "nvrtc64_120_0.dll"))))
        parts = ("cuda_runtime", "cuda_nvcc", "cuda_cccl")
        self.options = ["-std=c++17", "--device-int128", "-DINFINITY=__int_as_float(0x7f800000)", "-w", "-default-device"]
        self.options += [f"-I{root / part / 'include'}" for part in parts]

    def text(self, program, name):
        """The log or the PTX."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{name}")(program, text)
        return text.value.decode()

    def compile(self, source, target):
        """The PTX of a file for a target such as `sm_70`."""
        program = ctypes.c_void_p()
        names, headers = strings(HEADERS.keys()), strings(HEADERS.values())
        created = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.read_bytes(), source.name.encode(), len(HEADERS), headers, names)
        if created != 0:
            raise SystemExit(f"NVRTC {source.name}: error {created}")
        options = strings([f"-arch={target.replace('sm_', 'compute_')}", *self.options])
        if self.library.nvrtcCompileProgram(program, len(options), options) != 0:
            raise SystemExit(f"NVRTC {source.name} for {target}:\n{self.text(program, 'ProgramLog')}")
        return self.text(program, "PTX")
