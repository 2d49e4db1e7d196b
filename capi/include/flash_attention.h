/*
 * flash_attention.h: exact attention, forward and backward, on the caller's device memory and stream.
 *
 *     softmax(scale * q k^T + bias) v
 *
 * Every function returns a code (FA_OK is 0); fa_last_error() says in words what went wrong. What a caller can get wrong is
 * found before anything is launched. Nothing is printed, and nothing is waited for (but see CUDA below): work is put onto the stream that
 * the caller gives, and is done when that stream has come to it. Before, a call takes all its workspace: one that is refused, for a
 * workspace that is too small too, has touched no memory.
 *
 * Memory. All device memory is the caller's. What a call needs beside its tensors it takes from a workspace that the caller
 * gives; fa_forward_workspace and fa_backward_workspace say how large that must be. What is written (outputs, gradients, workspace)
 * must not overlap anything else that the call reads or writes. Overlaps of tensors without gaps are refused; others, as of views
 * into one packed tensor, are not looked for. The host's memory is used as usual.
 *
 * CUDA. fa_device_cuda uses the device's primary context, which is that of the CUDA runtime, so that pointers of cudaMalloc and of
 * PyTorch, and streams of both, can be given as they are. The calling thread's current context is the same after a call as before it.
 * Calls with lists (key_lengths, query_offsets, key_offsets) copy them to the device on the stream. Calls without queries or keys, but
 * with sinks, wait for the stream. A fault of a kernel is reported late, at whatever is called next.
 *
 * Kernels. The first call that needs a kernel loads it: the driver compiles it, which takes up to seconds, and takes memory of its own.
 * To have that behind you, make one call of the same type, head dims and options before. Other threads' calls wait for it only where
 * they need the same kernel.
 *
 * Graphs. Calls can be captured from a stream into a CUDA graph where their kernels are loaded; otherwise, and with lists, a call on a
 * stream that is being captured is an error. The graph uses the same memory, and the same dropout mask, at every replay.
 *
 * Emulator. fa_device_emulator gives a device that runs the same kernels on the CPU; its memory comes from fa_alloc alone, and its
 * stream is NULL.
 *
 * Threads. A device may be used by several threads at the same time.
 */
#ifndef FLASH_ATTENTION_H
#define FLASH_ATTENTION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Codes. */
enum {
    FA_OK = 0,
    FA_ERROR_ARGUMENT = 1,    /* an argument is wrong, or arguments do not fit together */
    FA_ERROR_REFUSED = 2,     /* no backend that may run can run this */
    FA_ERROR_UNAVAILABLE = 3, /* there is no such device */
    FA_ERROR_DEVICE = 4,      /* the device failed: at a copy, at a launch, or for lack of memory */
    FA_ERROR_WORKSPACE = 5,   /* the workspace is too small */
    FA_ERROR_INTERNAL = 6     /* a defect of this library */
};

/* Types of elements. Arithmetic is in f32 whatever the type. */
enum { FA_F32 = 0, FA_F16 = 1, FA_BF16 = 2, FA_U8 = 3 };

/* Which keys a query sees by position: all; j <= i (PyTorch's is_causal); j <= i + keys - queries (flash-attn's causal). */
enum { FA_CAUSAL_NONE = 0, FA_CAUSAL_UPPER_LEFT = 1, FA_CAUSAL_LOWER_RIGHT = 2 };

/* The order of the dimensions of q, k, v, out and their gradients, where they have four. */
enum { FA_LAYOUT_BHSD = 0, FA_LAYOUT_BSHD = 1 };

/* How to compute: Flash where it can, else Efficient; fused with ordinary arithmetic; fused on tensor cores (f16 and bf16). */
enum { FA_BACKEND_AUTO = 0, FA_BACKEND_EFFICIENT = 1, FA_BACKEND_FLASH = 2 };

/*
 * Whether backward gives the same bits every time: where few keys are seen, and at FA_BACKEND_EFFICIENT; always; only where there is no
 * kernel that adds up dq atomically. Such a kernel changes the last bits of dq and nothing else; its workspace holds f32 sums of dq.
 */
enum { FA_DETERMINISTIC_DEFAULT = 0, FA_DETERMINISTIC_YES = 1, FA_DETERMINISTIC_NO = 2 };

/*
 * Device memory as a tensor. Strides count elements, are not negative, and are 1 in the last dimension (0 elsewhere repeats; not in
 * tensors that are written). Rank 0, as in a struct of zeros, is a tensor that is not given.
 */
typedef struct fa_tensor {
    uint64_t data;      /* device address of the first element, a multiple of the element's size */
    int32_t dtype;      /* FA_F32, FA_F16, FA_BF16, FA_U8 */
    int32_t rank;       /* dimensions, at most 4 */
    int64_t shape[4];   /* the first `rank` count */
    int64_t strides[4]; /* in elements */
} fa_tensor;

/*
 * Inputs and options, the same for forward and backward. fa_problem_init fills in plain attention; then set q, k, v and what else there is.
 *
 * Shapes, in the order FA_LAYOUT_BHSD: q [batch, hq, sq, d], k [batch, hk, sk, d], v [batch, hk, sk, dv], with hq a multiple of hk; or
 * of rank 3, [batch, seq, dim], one head. Head dims are 1 to 256. Sequences may be empty. In a ragged batch, which has offsets, they
 * are q [total queries, hq, d], k [total keys, hk, d], v [total keys, hk, dv], and sequence b is rows offsets[b] to offsets[b + 1].
 *
 * The score of query i and key j: s = scale * q_i k_j; softcap * tanh(s / softcap) if there is a softcap; minus slope * |i + sk - sq - j|
 * with ALiBi; plus the bias. A key counts if its mask is not 0, causal and window allow it, and it lies within key_lengths. Windows stand
 * at the diagonal that ends in the lower right corner, but with FA_CAUSAL_UPPER_LEFT.
 */
typedef struct fa_problem {
    fa_tensor q, k, v;
    fa_tensor mask;  /* u8, 0 = may not attend; [batch, hq, sq, sk], where all but the keys may be 1 or, from the left, missing */
    fa_tensor bias;  /* in the type of q; shaped as a mask */
    fa_tensor alibi; /* slopes, f32 [hq] or [batch, hq] */
    fa_tensor sinks; /* logits that take part in the softmax and have no value, f32 [hq] */
    const int32_t *key_lengths;   /* HOST memory, [batch]: the keys of each entry that count; or NULL */
    const int32_t *query_offsets; /* HOST memory, [batch + 1]: a ragged batch; or NULL */
    const int32_t *key_offsets;   /* HOST memory, [batch + 1]: given together with query_offsets; or NULL */
    int64_t batch;                /* entries of key_lengths, or sequences of a ragged batch; else unused */
    int64_t window_left;     /* keys before the diagonal that a query sees; -1 = no bound */
    int64_t window_right;    /* keys after it; -1 = no bound */
    uint64_t dropout_seed;   /* which weights are dropped is a function of seed, offset and the weight's place alone */
    uint32_t dropout_offset;
    float dropout_p;         /* the share that is dropped, at least 0 and below 1; 0 = none */
    float scale;             /* 0 = 1 / sqrt(d) */
    float softcap;           /* 0 = none */
    int32_t causal;          /* FA_CAUSAL_... */
    int32_t layout;          /* FA_LAYOUT_... */
    int32_t backend;         /* FA_BACKEND_... */
    int32_t splits;          /* into how many parts Flash divides the keys in forward, at most 128; 0 = as many as keep the device busy */
    int32_t deterministic;   /* FA_DETERMINISTIC_... */
    int32_t reserved;        /* 0; anything else is refused */
} fa_problem;

/* What forward writes. */
typedef struct fa_forward_tensors {
    fa_tensor out; /* in the type of q: its shape with dv columns */
    fa_tensor lse; /* natural log-sum-exp, f32, contiguous: [batch, hq, sq], [batch, sq] for rank 3, [hq, total queries] for a ragged
                      batch; optional (backward needs it). A query that sees no key has its head's sink, or -inf. */
} fa_forward_tensors;

/* What backward reads (the first four, as forward wrote them or in their shapes) and writes (each in the shape of its tensor). */
typedef struct fa_backward_tensors {
    fa_tensor out;
    fa_tensor lse;
    fa_tensor dout;
    fa_tensor dlse;   /* f32, contiguous; optional: where the log-sum-exp is used too */
    fa_tensor dq;
    fa_tensor dk;
    fa_tensor dv;
    fa_tensor dbias;  /* optional */
    fa_tensor dsinks; /* optional; contiguous */
} fa_backward_tensors;

/* Where a call works. NULL in its place: the default stream, and no workspace. */
typedef struct fa_execution {
    void *stream;             /* a CUstream or cudaStream_t; NULL is the default stream */
    uint64_t workspace;       /* device address, a multiple of 256 */
    uint64_t workspace_bytes; /* it is in use until the call's work is done */
} fa_execution;

/* A device. */
typedef struct fa_device fa_device;

/* The library's version, as "0.1.0". */
const char *fa_version(void);

/* The message of the calling thread's last failure, "" where there was none; valid until the thread's next failure. */
const char *fa_last_error(void);

/* Bytes of a struct, to compare with sizeof: 0 fa_tensor, 1 fa_problem, 2 fa_forward_tensors, 3 fa_backward_tensors, 4 fa_execution. */
uint64_t fa_struct_size(int32_t which);

/* Opens the CUDA device of an ordinal. FA_ERROR_UNAVAILABLE where there is none, or no driver. */
int32_t fa_device_cuda(uint32_t ordinal, fa_device **device);

/* Makes an emulator on so many host threads; 0 = one a core. */
int32_t fa_device_emulator(uint32_t threads, fa_device **device);

/* Closes a device whose work is done, and frees what fa_alloc gave on it. NULL is allowed. */
int32_t fa_device_close(fa_device *device);

/*
 * Device memory for callers without an allocator of their own: at multiples of 256, uninitialised, for work on any stream. fa_free gives
 * it back to the driver, which waits for the device's work first; nothing is kept.
 */
int32_t fa_alloc(const fa_device *device, uint64_t bytes, uint64_t *address);
int32_t fa_free(const fa_device *device, uint64_t address);

/*
 * Copies to and from device memory, after the work on the default stream, and waits for the copy: work on any stream that is started
 * after fa_write has returned sees what was written. Before fa_read, wait for a stream of your own that writes there.
 */
int32_t fa_write(const fa_device *device, uint64_t address, const void *from, uint64_t bytes);
int32_t fa_read(const fa_device *device, uint64_t address, void *to, uint64_t bytes);

/* Fills in plain attention, without any tensor. */
int32_t fa_problem_init(fa_problem *problem);

/*
 * The bytes of workspace that the call needs for the same arguments. No memory is touched; addresses count by their alignment alone, and
 * may be 0. Where Flash divides keys in n parts, forward takes n f32 outputs and log-sum-exps of all queries from it.
 */
int32_t fa_forward_workspace(const fa_device *device, const fa_problem *problem, const fa_forward_tensors *tensors,
                             uint64_t *bytes);
int32_t fa_backward_workspace(const fa_device *device, const fa_problem *problem, const fa_backward_tensors *tensors,
                              uint64_t *bytes);

/* The backend that fa_forward takes for the same arguments: FA_BACKEND_EFFICIENT or FA_BACKEND_FLASH. No memory is touched. */
int32_t fa_forward_backend(const fa_device *device, const fa_problem *problem, const fa_forward_tensors *tensors,
                           int32_t *chosen);

/* Puts forward onto the stream. */
int32_t fa_forward(const fa_device *device, const fa_problem *problem, const fa_forward_tensors *tensors,
                   const fa_execution *execution);

/*
 * Puts backward onto the stream. The problem is that of forward. A gradient of a q, k or v that is repeated to the batch or heads of
 * another (but key heads that several query heads share) would have to be summed, and is refused.
 */
int32_t fa_backward(const fa_device *device, const fa_problem *problem, const fa_backward_tensors *tensors,
                    const fa_execution *execution);

/* A contiguous tensor. */
static inline fa_tensor fa_contiguous(uint64_t data, int32_t dtype, int32_t rank, const int64_t *shape) {
    fa_tensor tensor;
    int64_t stride = 1;
    memset(&tensor, 0, sizeof tensor);
    tensor.data = data;
    tensor.dtype = dtype;
    tensor.rank = rank;
    for (int32_t d = rank - 1; d >= 0; d--) {
        tensor.shape[d] = shape[d];
        tensor.strides[d] = stride;
        stride *= shape[d] > 0 ? shape[d] : 1;
    }
    return tensor;
}

#ifdef __cplusplus
}
#endif

#endif
