// Copies that go on by themselves: pipelines, barriers with counts, bulk copies, clusters.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda/ptx>
#include <cuda_pipeline.h>

namespace cg = cooperative_groups;

// Stages ahead of the sum, by the primitives.
extern "C" __global__ void pipeline_primitives(const float *in, float *out, int tiles) {
    __shared__ __align__(16) float stage[3][512];
    auto fetch = [&](int tile) {
        if (tile < tiles)
            __pipeline_memcpy_async(&stage[tile % 3][4 * threadIdx.x], &in[tile * 512 + 4 * threadIdx.x], 16);
        __pipeline_commit();
    };
    fetch(0), fetch(1);
    float sum = 0;
    for (int tile = 0; tile < tiles; tile++) {
        fetch(tile + 2);
        __pipeline_wait_prior(2);
        __syncthreads();
        for (int i = 0; i < 4; i++) sum += stage[tile % 3][(threadIdx.x + 128 * i + 1) % 512];
        __syncthreads();
    }
    out[threadIdx.x] = sum;
}

// The same with cuda::pipeline shared by the block.
extern "C" __global__ void pipeline_shared(const int *in, int *out, int tiles) {
    __shared__ int stage[2][256];
    using State = cuda::pipeline_shared_state<cuda::thread_scope_block, 2>;
    __shared__ alignas(State) char room[sizeof(State)];
    auto block = cg::this_thread_block();
    auto pipeline = cuda::make_pipeline(block, (State *)room);
    pipeline.producer_acquire();
    cuda::memcpy_async(block, stage[0], in, cuda::aligned_size_t<16>(1024), pipeline);
    pipeline.producer_commit();
    int sum = 0;
    for (int tile = 0; tile < tiles; tile++) {
        if (tile + 1 < tiles) {
            pipeline.producer_acquire();
            cuda::memcpy_async(block, stage[(tile + 1) % 2], in + 256 * (tile + 1), cuda::aligned_size_t<16>(1024), pipeline);
            pipeline.producer_commit();
        }
        pipeline.consumer_wait();
        sum += stage[tile % 2][(threadIdx.x * 7 + tile) % 256];
        pipeline.consumer_release();
    }
    out[threadIdx.x] = sum;
}

extern "C" __global__ void copy_group(const int *in, int *out) {
    __shared__ int stage[256];
    auto block = cg::this_thread_block();
    cg::memcpy_async(block, stage, in + blockIdx.x * 256, sizeof(stage));
    cg::wait(block);
    out[blockIdx.x * 256 + threadIdx.x] = stage[255 - threadIdx.x];
}

// Half of the block produces, the other consumes.
extern "C" __global__ void barriers(const int *in, int *out, int tiles) {
    using Barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ int stage[2][64];
    __shared__ alignas(8) char room[4 * sizeof(Barrier)];
    Barrier *full = (Barrier *)room, *empty = full + 2;
    auto block = cg::this_thread_block();
    if (threadIdx.x < 2) init(full + threadIdx.x, 128), init(empty + threadIdx.x, 128);
    block.sync();
    int t = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        for (int tile = 0; tile < tiles; tile++) {
            empty[tile % 2].arrive_and_wait();
            stage[tile % 2][t] = in[tile * 64 + t] * 2;
            (void)full[tile % 2].arrive();
        }
    } else {
        (void)empty[0].arrive(), (void)empty[1].arrive();
        int sum = 0;
        for (int tile = 0; tile < tiles; tile++) {
            full[tile % 2].arrive_and_wait();
            sum += stage[tile % 2][63 - t];
            (void)empty[tile % 2].arrive();
        }
        out[t] = sum;
    }
}

#if __CUDA_ARCH__ >= 900
// A bulk copy in, arithmetic, a bulk copy out.
extern "C" __global__ void bulk_copies(const int *in, int *out) {
    using Barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ alignas(128) int stage[1024];
    __shared__ alignas(8) char room[sizeof(Barrier)];
    Barrier &barrier = *(Barrier *)room;
    if (threadIdx.x == 0) {
        init(&barrier, blockDim.x);
        cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    }
    __syncthreads();
    Barrier::arrival_token token;
    if (threadIdx.x == 0) {
        cuda::ptx::cp_async_bulk(cuda::ptx::space_cluster, cuda::ptx::space_global, stage, in + 1024 * blockIdx.x, sizeof(stage),
                                 cuda::device::barrier_native_handle(barrier));
        token = cuda::device::barrier_arrive_tx(barrier, 1, sizeof(stage));
    } else {
        token = barrier.arrive();
    }
    barrier.wait(std::move(token));
    for (int i = threadIdx.x; i < 1024; i += blockDim.x) stage[i] = stage[i] * 3 + 1;
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        cuda::ptx::cp_async_bulk(cuda::ptx::space_global, cuda::ptx::space_shared, out + 1024 * blockIdx.x, stage, sizeof(stage));
        cuda::ptx::cp_async_bulk_commit_group();
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>());
    }
}

// A histogram whose bins lie in the shared memory of four blocks.
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_histogram(const unsigned char *in, unsigned *bins, int n) {
    __shared__ unsigned own[64];
    cg::cluster_group cluster = cg::this_cluster();
    if (threadIdx.x < 64) own[threadIdx.x] = 0;
    cluster.sync();
    for (int i = cluster.thread_rank() + (blockIdx.x / 4) * (n / (gridDim.x / 4)), end = (blockIdx.x / 4 + 1) * (n / (gridDim.x / 4));
         i < end; i += cluster.num_threads()) {
        unsigned *there = cluster.map_shared_rank(own, in[i] / 64);
        atomicAdd(there + in[i] % 64, 1);
    }
    cluster.sync();
    if (threadIdx.x < 64) atomicAdd(bins + cluster.block_rank() * 64 + threadIdx.x, own[threadIdx.x]);
}
#endif
