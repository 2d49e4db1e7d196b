// Running sums: within a block by shuffles and by doubling strides, over all blocks in one pass that looks back.
extern "C" __global__ void scan_block_shuffle(const int *in, int *out, int n) {
    __shared__ int totals[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int x = i < n ? in[i] : 0;
    for (int offset = 1; offset < 32; offset *= 2) {
        int y = __shfl_up_sync(~0u, x, offset);
        if (lane >= offset) x += y;
    }
    if (lane == 31) totals[warp] = x;
    __syncthreads();
    if (warp == 0) {
        int total = lane < blockDim.x / 32 ? totals[lane] : 0;
        for (int offset = 1; offset < 32; offset *= 2) {
            int y = __shfl_up_sync(~0u, total, offset);
            if (lane >= offset) total += y;
        }
        totals[lane] = total;
    }
    __syncthreads();
    if (i < n) out[i] = x + (warp > 0 ? totals[warp - 1] : 0);
}

extern "C" __global__ void scan_doubling(const float *in, float *out, int n) {
    extern __shared__ float row[];
    float *from = row, *to = row + blockDim.x;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    from[threadIdx.x] = i < n ? in[i] : 0;
    __syncthreads();
    for (int stride = 1; stride < blockDim.x; stride *= 2) {
        to[threadIdx.x] = from[threadIdx.x] + (threadIdx.x >= stride ? from[threadIdx.x - stride] : 0);
        __syncthreads();
        float *other = from;
        from = to;
        to = other;
    }
    if (i < n) out[i] = from[threadIdx.x];
}

// Work-efficient, exclusive: up the tree, then down.
extern "C" __global__ void scan_tree(const unsigned long long *in, unsigned long long *out) {
    __shared__ unsigned long long tree[512];
    unsigned t = threadIdx.x;
    tree[2 * t] = in[512 * blockIdx.x + 2 * t];
    tree[2 * t + 1] = in[512 * blockIdx.x + 2 * t + 1];
    unsigned step = 1;
    for (unsigned d = 256; d > 0; d >>= 1, step <<= 1) {
        __syncthreads();
        if (t < d) tree[step * (2 * t + 2) - 1] += tree[step * (2 * t + 1) - 1];
    }
    if (t == 0) tree[511] = 0;
    for (unsigned d = 1; d < 512; d <<= 1) {
        step >>= 1;
        __syncthreads();
        if (t < d) {
            unsigned a = step * (2 * t + 1) - 1, b = step * (2 * t + 2) - 1;
            unsigned long long left = tree[a];
            tree[a] = tree[b];
            tree[b] += left;
        }
    }
    __syncthreads();
    out[512 * blockIdx.x + 2 * t] = tree[2 * t];
    out[512 * blockIdx.x + 2 * t + 1] = tree[2 * t + 1];
}

// A ticket gives each block its place, so that the blocks before it have begun: then waiting for them ends.
extern "C" __global__ void scan_look_back(const int *in, int *out, unsigned *ticket, volatile int *sums, int n) {
    __shared__ unsigned place;
    __shared__ int before, row[256];
    if (threadIdx.x == 0) place = atomicAdd(ticket, 1);
    __syncthreads();
    int i = place * 256 + threadIdx.x;
    row[threadIdx.x] = i < n ? in[i] : 0;
    __syncthreads();
    for (int stride = 1; stride < 256; stride *= 2) {
        int y = threadIdx.x >= stride ? row[threadIdx.x - stride] : 0;
        __syncthreads();
        row[threadIdx.x] += y;
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        int sum = 0;
        if (place > 0) {
            while (sums[2 * (place - 1)] == 0) {}
            __threadfence();
            sum = sums[2 * (place - 1) + 1];
        }
        before = sum;
        sums[2 * place + 1] = sum + row[255];
        __threadfence();
        sums[2 * place] = 1;
    }
    __syncthreads();
    if (i < n) out[i] = before + row[threadIdx.x];
}
