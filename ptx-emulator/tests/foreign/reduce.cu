// Sums and extrema: by shuffles, by trees in shared memory, by cooperative groups, by the last block to finish.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_fp16.h>

namespace cg = cooperative_groups;

template <typename T> __device__ T warp_sum(T x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_down_sync(~0u, x, offset);
    return x;
}

extern "C" __global__ void sum_shuffle(const float *in, float *out, int n) {
    __shared__ float partial[32];
    float x = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) x += in[i];
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x < 32) {
        x = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.f);
        if (threadIdx.x == 0) atomicAdd(out, x);
    }
}

extern "C" __global__ void sum_tree(const double *in, double *out, int n) {
    extern __shared__ double tree[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tree[threadIdx.x] = i < n ? in[i] : 0;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) tree[threadIdx.x] += tree[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) atomicAdd(out, tree[0]);
}

// Sum, smallest and largest of a block's integers, with the reductions of cooperative groups.
extern "C" __global__ void extrema_cooperative(const int *in, int *out, int n) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    __shared__ int sums[32], lows[32], highs[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int x = in[i < n ? i : n - 1];
    int sum = cg::reduce(warp, i < n ? x : 0, cg::plus<int>());
    int low = cg::reduce(warp, x, cg::less<int>());
    int high = cg::reduce(warp, x, cg::greater<int>());
    if (warp.thread_rank() == 0) {
        sums[warp.meta_group_rank()] = sum;
        lows[warp.meta_group_rank()] = low;
        highs[warp.meta_group_rank()] = high;
    }
    block.sync();
    if (block.thread_rank() == 0) {
        for (int w = 1; w < warp.meta_group_size(); w++) {
            sum += sums[w];
            low = min(low, lows[w]);
            high = max(high, highs[w]);
        }
        atomicAdd(out, sum);
        atomicMin(out + 1, low);
        atomicMax(out + 2, high);
    }
}

// The block that counts last adds up what all have left.
__device__ unsigned finished = 0;

extern "C" __global__ void sum_last_block(const float *in, volatile float *partial, float *out, int n) {
    __shared__ float tree[256];
    __shared__ bool last;
    float x = 0;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) x += in[i];
    tree[threadIdx.x] = x;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) tree[threadIdx.x] += tree[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = tree[0];
        __threadfence();
        last = atomicInc(&finished, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0;
        for (int b = 0; b < gridDim.x; b++) sum += partial[b];
        *out = sum;
    }
}

// Pairs of halves: the largest and the sum in half precision, then in single.
extern "C" __global__ void extrema_half2(const __half2 *in, float *out, int pairs) {
    __half2 high = __floats2half2_rn(-65504.f, -65504.f);
    float sum = 0;
    for (int i = threadIdx.x; i < pairs; i += 32) {
        high = __hmax2(high, in[i]);
        float2 both = __half22float2(in[i]);
        sum += both.x + both.y;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        high = __hmax2(high, __shfl_xor_sync(~0u, high, offset));
        sum += __shfl_xor_sync(~0u, sum, offset);
    }
    if (threadIdx.x == 0) {
        out[0] = __half2float(__hmax(__low2half(high), __high2half(high)));
        out[1] = sum;
    }
}

// Sums of the four tiles of a warp, whose lanes name the lanes of their own tile alone; the lanes of the last tile's lower half come later.
extern "C" __global__ void tiles(const int *x, int *out) {
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(cg::this_thread_block());
    int value = x[threadIdx.x];
    if (threadIdx.x % 32 >= 24 && threadIdx.x % 32 < 28) {
        for (int k = 0; k < 3; k++) value = value * 3 + 1;
    }
    int sum = cg::reduce(tile, value, cg::plus<int>());
    unsigned odd = tile.ballot(value & 1);
    out[threadIdx.x] = sum + tile.shfl(value, 7) * 2 + (int)odd;
}

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void reductions_of_a_warp(const unsigned *in, unsigned *out) {
    unsigned x = in[threadIdx.x];
    unsigned mask = threadIdx.x < 20 ? 0xfffff : 0xfff00000;
    unsigned *to = out + (threadIdx.x < 20 ? 0 : 6);
    unsigned all[6];
    if (threadIdx.x < 20) {
        all[0] = __reduce_add_sync(mask, x), all[1] = __reduce_min_sync(mask, x), all[2] = __reduce_max_sync(mask, x);
        all[3] = __reduce_and_sync(mask, x), all[4] = __reduce_or_sync(mask, x), all[5] = __reduce_xor_sync(mask, x);
    } else {
        all[0] = __reduce_add_sync(mask, x), all[1] = __reduce_min_sync(mask, (int)x);
        all[2] = __reduce_max_sync(mask, (int)x);
        all[3] = __reduce_and_sync(mask, x), all[4] = __reduce_or_sync(mask, x), all[5] = __reduce_xor_sync(mask, x);
    }
    if (threadIdx.x == 0 || threadIdx.x == 20)
        for (int k = 0; k < 6; k++) to[k] = all[k];
}
#endif

// Two barriers of the grid: the sum of all, by the sums of the blocks, and what each element lacks of it.
extern "C" __global__ void rest_of_sum(const int *in, int *partial, int *total, int *out, int n) {
    cg::grid_group grid = cg::this_grid();
    int sum = 0;
    for (int i = grid.thread_rank(); i < n; i += grid.num_threads()) sum += in[i];
    atomicAdd(&partial[blockIdx.x], sum);
    grid.sync();
    if (grid.thread_rank() == 0)
        for (int b = 0; b < gridDim.x; b++) *total += partial[b];
    grid.sync();
    for (int i = grid.thread_rank(); i < n; i += grid.num_threads()) out[i] = *total - in[i];
}
