// A transpose through shared memory whose rows have one element more than the tile, and one of complex numbers.
template <typename T> __device__ void transpose(const T *in, T *out, int rows, int columns) {
    __shared__ T tile[32][33];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < columns && y + j < rows) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * columns + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x, y = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < rows && y + j < columns) out[(y + j) * rows + x] = tile[threadIdx.x][threadIdx.y + j];
}

extern "C" __global__ void transpose_float(const float *in, float *out, int rows, int columns) {
    transpose(in, out, rows, columns);
}

extern "C" __global__ void transpose_complex(const double2 *in, double2 *out, int rows, int columns) {
    transpose(in, out, rows, columns);
}

extern "C" __global__ void transpose_bytes(const char *in, char *out, int rows, int columns) {
    transpose(in, out, rows, columns);
}
