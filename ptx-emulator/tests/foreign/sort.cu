// Sorts: bitonic in shared memory, radix over several launches, odd-even between lanes, merge by ranks.
extern "C" __global__ void sort_bitonic(int *keys) {
    __shared__ int row[1024];
    int *own = keys + blockIdx.x * 1024;
    for (int i = threadIdx.x; i < 1024; i += blockDim.x) row[i] = own[i];
    for (int size = 2; size <= 1024; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            __syncthreads();
            for (int t = threadIdx.x; t < 512; t += blockDim.x) {
                int i = 2 * t - (t & (stride - 1));
                bool up = (i & size) == 0;
                int a = row[i], b = row[i + stride];
                if ((a > b) == up) row[i] = b, row[i + stride] = a;
            }
        }
    __syncthreads();
    for (int i = threadIdx.x; i < 1024; i += blockDim.x) own[i] = row[i];
}

// Four bits a pass. counts[digit * blocks + block].
extern "C" __global__ void radix_count(const unsigned *keys, unsigned *counts, int shift) {
    __shared__ unsigned own[16];
    if (threadIdx.x < 16) own[threadIdx.x] = 0;
    __syncthreads();
    atomicAdd(own + (keys[blockIdx.x * blockDim.x + threadIdx.x] >> shift & 15), 1);
    __syncthreads();
    if (threadIdx.x < 16) counts[threadIdx.x * gridDim.x + blockIdx.x] = own[threadIdx.x];
}

extern "C" __global__ void radix_scan(unsigned *counts, int n) {
    unsigned sum = 0;
    for (int i = 0; i < n; i++) {
        unsigned x = counts[i];
        counts[i] = sum;
        sum += x;
    }
}

// A key's rank among the block's keys of the same digit, by votes: the sort is stable.
extern "C" __global__ void radix_scatter(const unsigned *keys, unsigned *out, const unsigned *counts, int shift) {
    __shared__ unsigned of_warp[16][33];
    unsigned key = keys[blockIdx.x * blockDim.x + threadIdx.x], digit = key >> shift & 15;
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, same = ~0u;
    for (int bit = 0; bit < 4; bit++) {
        unsigned set = __ballot_sync(~0u, digit >> bit & 1);
        same &= digit >> bit & 1 ? set : ~set;
    }
    unsigned below;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    if (lane < 16) of_warp[lane][warp] = 0;
    __syncwarp();
    unsigned rank = __popc(same & below);
    if (rank == 0) of_warp[digit][warp] = __popc(same);
    __syncthreads();
    for (unsigned w = 0; w < warp; w++) rank += of_warp[digit][w];
    out[counts[digit * gridDim.x + blockIdx.x] + rank] = key;
}

// A warp sorts 32 pairs of a key and its place.
extern "C" __global__ void sort_lanes(const float *keys, float *sorted, int *places) {
    float key = keys[blockIdx.x * 32 + threadIdx.x];
    int place = threadIdx.x;
    for (int size = 2; size <= 32; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            float other = __shfl_xor_sync(~0u, key, stride);
            int its = __shfl_xor_sync(~0u, place, stride);
            bool lower = (threadIdx.x & stride) == 0, up = (threadIdx.x & size) == 0;
            bool less = other < key || (other == key && its < place);
            if (less == (lower == up)) key = other, place = its;
        }
    sorted[blockIdx.x * 32 + threadIdx.x] = key;
    places[blockIdx.x * 32 + threadIdx.x] = place;
}

// Two sorted rows into one: each element finds its place by a search in the other row.
extern "C" __global__ void merge_by_rank(const short *a, const short *b, short *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= 2 * n) return;
    bool first = i < n;
    short key = first ? a[i] : b[i - n];
    const short *other = first ? b : a;
    int low = 0, high = n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (first ? other[middle] < key : other[middle] <= key) low = middle + 1;
        else high = middle;
    }
    out[(first ? i : i - n) + low] = key;
}
