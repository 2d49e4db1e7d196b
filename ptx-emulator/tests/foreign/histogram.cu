// Counting bytes: in shared memory by atomics, by votes of a warp, by lanes that agree.
extern "C" __global__ void histogram_shared(const unsigned char *in, unsigned *bins, int n) {
    __shared__ unsigned own[256];
    own[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n / 4; i += gridDim.x * 256) {
        uchar4 four = ((const uchar4 *)in)[i];
        atomicAdd(own + four.x, 1);
        atomicAdd(own + four.y, 1);
        atomicAdd(own + four.z, 1);
        atomicAdd(own + four.w, 1);
    }
    __syncthreads();
    if (own[threadIdx.x]) atomicAdd(bins + threadIdx.x, own[threadIdx.x]);
}

// One addition for all lanes that hold the same value.
extern "C" __global__ void histogram_match(const unsigned char *in, unsigned *bins, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned there = __ballot_sync(~0u, i < n);
    if (i < n) {
        unsigned same = __match_any_sync(there, (unsigned)in[i]);
        if (__ffs(same) - 1 == threadIdx.x % 32) atomicAdd(bins + in[i], __popc(same));
    }
}

// Bins in 16 bits each: an addition by compare and swap.
extern "C" __global__ void histogram_cas(const unsigned char *in, unsigned short *bins, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned short *bin = bins + in[i], old = *(volatile unsigned short *)bin, seen;
    while ((seen = atomicCAS(bin, old, (unsigned short)(old + 1))) != old) old = seen;
}
