"""The C interface of the library, through ctypes; include/flash_attention.h says what everything means."""

import ctypes
import math


class Tensor(ctypes.Structure):
    """fa_tensor; rank 0 is a tensor that is not given."""

    _fields_ = [("data", ctypes.c_uint64), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 4), ("strides", ctypes.c_int64 * 4)]


class Problem(ctypes.Structure):
    """fa_problem."""

    _fields_ = [(name, Tensor) for name in ["q", "k", "v", "mask", "bias", "alibi", "sinks"]] + [
        ("key_lengths", ctypes.c_void_p), ("query_offsets", ctypes.c_void_p), ("key_offsets", ctypes.c_void_p),
        ("batch", ctypes.c_int64), ("window_left", ctypes.c_int64), ("window_right", ctypes.c_int64),
        ("dropout_seed", ctypes.c_uint64), ("dropout_offset", ctypes.c_uint32), ("dropout_p", ctypes.c_float),
        ("scale", ctypes.c_float), ("softcap", ctypes.c_float), ("causal", ctypes.c_int32), ("layout", ctypes.c_int32),
        ("backend", ctypes.c_int32), ("splits", ctypes.c_int32),
        ("deterministic", ctypes.c_int32), ("reserved", ctypes.c_int32)]


class ForwardTensors(ctypes.Structure):
    """fa_forward_tensors."""

    _fields_ = [("out", Tensor), ("lse", Tensor)]


class BackwardTensors(ctypes.Structure):
    """fa_backward_tensors."""

    _fields_ = [(name, Tensor) for name in ["out", "lse", "dout", "dlse", "dq", "dk", "dv", "dbias", "dsinks"]]


class Execution(ctypes.Structure):
    """fa_execution."""

    _fields_ = [("stream", ctypes.c_void_p), ("workspace", ctypes.c_uint64), ("workspace_bytes", ctypes.c_uint64)]


STRUCTS = [Tensor, Problem, ForwardTensors, BackwardTensors, Execution]


class Library:
    """The shared library, and one of its devices. Every call that fails raises RuntimeError with the library's words."""

    def __init__(self, path):
        self.native = ctypes.CDLL(str(path))
        self.native.fa_last_error.restype = ctypes.c_char_p
        self.native.fa_version.restype = ctypes.c_char_p
        self.native.fa_struct_size.restype = ctypes.c_uint64
        for which, kind in enumerate(STRUCTS):
            if self.native.fa_struct_size(which) != ctypes.sizeof(kind):
                raise RuntimeError(f"{path} has another {kind.__name__} than this script: they are of different versions")
        self.device = ctypes.c_void_p()

    def call(self, name, *arguments):
        """Calls a function that returns a code."""
        if getattr(self.native, name)(*arguments) != 0:
            raise RuntimeError(f"{name}: {self.native.fa_last_error().decode()}")

    def version(self):
        return self.native.fa_version().decode()

    def open_cuda(self, ordinal):
        self.call("fa_device_cuda", ctypes.c_uint32(ordinal), ctypes.byref(self.device))

    def open_emulator(self):
        self.call("fa_device_emulator", ctypes.c_uint32(0), ctypes.byref(self.device))

    def workspace(self, name, problem, tensors):
        """Bytes of workspace of fa_forward or fa_backward."""
        size = ctypes.c_uint64()
        self.call(f"{name}_workspace", self.device, ctypes.byref(problem), ctypes.byref(tensors), ctypes.byref(size))
        return size.value

    def backend(self, problem, tensors):
        """The name of the backend that forward takes."""
        chosen = ctypes.c_int32()
        self.call("fa_forward_backend", self.device, ctypes.byref(problem), ctypes.byref(tensors), ctypes.byref(chosen))
        return {1: "efficient", 2: "flash"}[chosen.value]


def tensor_of(address, dtype, shape, strides=None):
    """A tensor of device memory; contiguous unless strides (in elements) are given."""
    if strides is None:
        strides = [math.prod(shape[d + 1:]) for d in range(len(shape))]
    pad = [0] * (4 - len(shape))
    four = ctypes.c_int64 * 4
    return Tensor(address, dtype, len(shape), four(*shape, *pad), four(*strides, *pad))


def plain_problem(library):
    problem = Problem()
    library.call("fa_problem_init", ctypes.byref(problem))
    return problem
