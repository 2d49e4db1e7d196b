// Collective operations of the CUB library within a block.
#include <cub/block/block_histogram.cuh>
#include <cub/block/block_load.cuh>
#include <cub/block/block_merge_sort.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>

struct Less {
    __device__ bool operator()(float a, float b) const { return a < b; }
};

extern "C" __global__ void __launch_bounds__(128) cub_radix_sort(unsigned *keys, int *values) {
    using Sort = cub::BlockRadixSort<unsigned, 128, 4, int>;
    __shared__ typename Sort::TempStorage room;
    unsigned key[4];
    int value[4];
    for (int i = 0; i < 4; i++) key[i] = keys[512 * blockIdx.x + 4 * threadIdx.x + i], value[i] = 4 * threadIdx.x + i;
    Sort(room).Sort(key, value);
    for (int i = 0; i < 4; i++) keys[512 * blockIdx.x + 4 * threadIdx.x + i] = key[i], values[512 * blockIdx.x + 4 * threadIdx.x + i] = value[i];
}

extern "C" __global__ void __launch_bounds__(128) cub_merge_sort(float *keys) {
    using Sort = cub::BlockMergeSort<float, 128, 3>;
    __shared__ typename Sort::TempStorage room;
    float key[3];
    for (int i = 0; i < 3; i++) key[i] = keys[3 * threadIdx.x + i];
    Sort(room).Sort(key, Less());
    for (int i = 0; i < 3; i++) keys[3 * threadIdx.x + i] = key[i];
}

extern "C" __global__ void __launch_bounds__(128) cub_scan(const long long *in, long long *out, long long *total) {
    using Load = cub::BlockLoad<long long, 128, 4, cub::BLOCK_LOAD_TRANSPOSE>;
    using Store = cub::BlockStore<long long, 128, 4, cub::BLOCK_STORE_WARP_TRANSPOSE>;
    using Scan = cub::BlockScan<long long, 128, cub::BLOCK_SCAN_RAKING>;
    __shared__ union { Load::TempStorage load; Store::TempStorage store; Scan::TempStorage scan; } room;
    long long x[4], sum;
    Load(room.load).Load(in, x);
    __syncthreads();
    Scan(room.scan).ExclusiveSum(x, x, sum);
    __syncthreads();
    Store(room.store).Store(out, x);
    if (threadIdx.x == 0) *total = sum;
}

extern "C" __global__ void __launch_bounds__(96) cub_reduce(const float *in, float *out) {
    using Reduce = cub::BlockReduce<float, 96, cub::BLOCK_REDUCE_WARP_REDUCTIONS>;
    __shared__ typename Reduce::TempStorage room;
    float sum = Reduce(room).Sum(in[threadIdx.x]);
    if (threadIdx.x == 0) *out = sum;
}

extern "C" __global__ void __launch_bounds__(128) cub_histogram(const unsigned char *in, unsigned *bins) {
    using Histogram = cub::BlockHistogram<unsigned char, 128, 4, 256>;
    __shared__ typename Histogram::TempStorage room;
    __shared__ unsigned own[256];
    unsigned char x[4];
    for (int i = 0; i < 4; i++) x[i] = in[4 * threadIdx.x + i];
    Histogram(room).Histogram(x, own);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += 128) bins[i] = own[i];
}
