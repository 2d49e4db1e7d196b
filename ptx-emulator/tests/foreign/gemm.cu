// Products of matrices, row major: one element a thread, tiles in shared memory, and each kind of fragment of nvcuda::wmma.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
#include <type_traits>

using namespace nvcuda;

extern "C" __global__ void gemm_naive(const float *a, const float *b, float *c, int m, int n, int k) {
    int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= m || column >= n) return;
    float sum = 0;
    for (int i = 0; i < k; i++) sum += a[row * k + i] * b[i * n + column];
    c[row * n + column] = sum;
}

// 64 x 64 a block, 4 x 4 a thread, 16 of the depth at a time. All sizes are multiples of these.
extern "C" __global__ void __launch_bounds__(256) gemm_tiled(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float left[16][64], right[16][64];
    float sums[4][4] = {};
    int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    a += blockIdx.y * 64 * k, b += blockIdx.x * 64, c += blockIdx.y * 64 * n + blockIdx.x * 64;
    for (int at = 0; at < k; at += 16) {
        for (int e = threadIdx.x; e < 1024; e += 256) {
            left[e % 16][e / 16] = a[e / 16 * k + at + e % 16];
            right[e / 64][e % 64] = b[(at + e / 64) * n + e % 64];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float4 x = *(float4 *)&left[i][row], y = *(float4 *)&right[i][column];
            float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int s = 0; s < 4; s++) sums[r][s] = fmaf(xs[r], ys[s], sums[r][s]);
        }
        __syncthreads();
    }
    for (int r = 0; r < 4; r++) *(float4 *)&c[(row + r) * n + column] = *(float4 *)sums[r];
}

// A warp a tile. The fragments' layouts are whatever loads and stores make of them.
template <int M, int N, int K, typename In, typename Sum, typename LayoutA, typename LayoutB, typename Stored>
__device__ void product(const Stored *a, const Stored *b, Sum *c, int n, int k, int lda, int ldb) {
    wmma::fragment<wmma::matrix_a, M, N, K, In, LayoutA> left;
    wmma::fragment<wmma::matrix_b, M, N, K, In, LayoutB> right;
    wmma::fragment<wmma::accumulator, M, N, K, Sum> sums;
    wmma::fill_fragment(sums, Sum(0));
    const bool a_rows = std::is_same<LayoutA, wmma::row_major>::value, b_rows = std::is_same<LayoutB, wmma::row_major>::value;
    for (int at = 0; at < k; at += K) {
        wmma::load_matrix_sync(left, a + (a_rows ? blockIdx.y * M * lda + at : at * lda + blockIdx.y * M), lda);
        wmma::load_matrix_sync(right, b + (b_rows ? at * ldb + blockIdx.x * N : blockIdx.x * N * ldb + at), ldb);
        wmma::mma_sync(sums, left, right, sums);
    }
    wmma::store_matrix_sync(c + blockIdx.y * M * n + blockIdx.x * N, sums, n, wmma::mem_row_major);
}

extern "C" __global__ void wmma_f16_f32(const half *a, const half *b, float *c, int n, int k) {
    product<16, 16, 16, half, float, wmma::row_major, wmma::row_major>(a, b, c, n, k, k, n);
}

// B by columns, sums in halves, tiles of 32 x 8.
extern "C" __global__ void wmma_f16_f16(const half *a, const half *b, half *c, int n, int k) {
    product<32, 8, 16, half, half, wmma::row_major, wmma::col_major>(a, b, c, n, k, k, k);
}

// A by columns, tiles of 8 x 32, through shared memory.
extern "C" __global__ void wmma_f16_shared(const half *a, const half *b, float *c, int n, int k) {
    __shared__ half left[16 * 8], right[16 * 32];
    __shared__ float tile[8 * 32];
    wmma::fragment<wmma::matrix_a, 8, 32, 16, half, wmma::col_major> fa;
    wmma::fragment<wmma::matrix_b, 8, 32, 16, half, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 8, 32, 16, float> sums;
    wmma::fill_fragment(sums, 1.f);
    for (int at = 0; at < k; at += 16) {
        for (int e = threadIdx.x; e < 128; e += 32) left[e] = a[(blockIdx.y * 8 + e % 8) * k + at + e / 8];
        for (int e = threadIdx.x; e < 512; e += 32) right[e] = b[(at + e / 32) * n + blockIdx.x * 32 + e % 32];
        __syncwarp();
        wmma::load_matrix_sync(fa, left, 8);
        wmma::load_matrix_sync(fb, right, 32);
        wmma::mma_sync(sums, fa, fb, sums);
        __syncwarp();
    }
    for (int e = 0; e < sums.num_elements; e++) sums.x[e] = sums.x[e] * 2.f - 2.f;
    wmma::store_matrix_sync(tile, sums, 8, wmma::mem_col_major);
    __syncwarp();
    for (int e = threadIdx.x; e < 256; e += 32)
        c[(blockIdx.y * 8 + e % 8) * n + blockIdx.x * 32 + e / 8] = tile[e];
}

#if __CUDA_ARCH__ >= 750
extern "C" __global__ void wmma_s8(const signed char *a, const signed char *b, int *c, int n, int k) {
    product<16, 16, 16, signed char, int, wmma::row_major, wmma::col_major>(a, b, c, n, k, k, k);
}

extern "C" __global__ void wmma_u8(const unsigned char *a, const unsigned char *b, int *c, int n, int k) {
    product<8, 32, 16, unsigned char, int, wmma::row_major, wmma::row_major>(a, b, c, n, k, k, n);
}

// Tiles of 8 by 8 of elements narrower than a byte, `PACKED` a word; leading dimensions count elements.
template <int K, int PACKED, class Element, class Multiply>
__device__ void narrow_product(const int *a, const int *b, int *c, int n, int k, Multiply multiply) {
    wmma::fragment<wmma::matrix_a, 8, 8, K, Element, wmma::row_major> left;
    wmma::fragment<wmma::matrix_b, 8, 8, K, Element, wmma::col_major> right;
    wmma::fragment<wmma::accumulator, 8, 8, K, int> sums;
    wmma::fill_fragment(sums, 0);
    for (int at = 0; at < k; at += K) {
        wmma::load_matrix_sync(left, a + (blockIdx.y * 8 * k + at) / PACKED, k);
        wmma::load_matrix_sync(right, b + (blockIdx.x * 8 * k + at) / PACKED, k);
        multiply(sums, left, right);
    }
    wmma::store_matrix_sync(c + blockIdx.y * 8 * n + blockIdx.x * 8, sums, n, wmma::mem_row_major);
}

extern "C" __global__ void wmma_s4(const int *a, const int *b, int *c, int n, int k) {
    narrow_product<32, 8, wmma::experimental::precision::s4>(
        a, b, c, n, k, [](auto &sums, auto &left, auto &right) { wmma::mma_sync(sums, left, right, sums); });
}

// Single bits: how many places differ.
extern "C" __global__ void wmma_b1(const int *a, const int *b, int *c, int n, int k) {
    narrow_product<128, 32, wmma::experimental::precision::b1>(
        a, b, c, n, k, [](auto &sums, auto &left, auto &right) { wmma::bmma_sync(sums, left, right, sums); });
}
#endif

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void wmma_bf16(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int n, int k) {
    product<16, 16, 16, __nv_bfloat16, float, wmma::row_major, wmma::col_major>(a, b, c, n, k, k, k);
}

extern "C" __global__ void wmma_tf32(const float *a, const float *b, float *c, int n, int k) {
    wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> left;
    wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> right;
    wmma::fragment<wmma::accumulator, 16, 16, 8, float> sums;
    wmma::fill_fragment(sums, 0.f);
    for (int at = 0; at < k; at += 8) {
        wmma::load_matrix_sync(left, a + blockIdx.y * 16 * k + at, k);
        wmma::load_matrix_sync(right, b + at * n + blockIdx.x * 16, n);
        for (int e = 0; e < left.num_elements; e++) left.x[e] = wmma::__float_to_tf32(left.x[e]);
        for (int e = 0; e < right.num_elements; e++) right.x[e] = wmma::__float_to_tf32(right.x[e]);
        wmma::mma_sync(sums, left, right, sums);
    }
    wmma::store_matrix_sync(c + blockIdx.y * 16 * n + blockIdx.x * 16, sums, n, wmma::mem_row_major);
}

extern "C" __global__ void wmma_f64(const double *a, const double *b, double *c, int n, int k) {
    product<8, 8, 4, double, double, wmma::row_major, wmma::col_major>(a, b, c, n, k, k, k);
}

// How many places are set in both.
extern "C" __global__ void wmma_b1_and(const int *a, const int *b, int *c, int n, int k) {
    narrow_product<128, 32, wmma::experimental::precision::b1>(a, b, c, n, k, [](auto &sums, auto &left, auto &right) {
        wmma::bmma_sync(sums, left, right, sums, wmma::experimental::bmmaBitOpAND);
    });
}
#endif
