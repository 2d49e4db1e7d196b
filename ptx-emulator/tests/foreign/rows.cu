// Operations on rows: softmax and layer norm, a block or a warp a row.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

__device__ float block_reduce(float x, bool sum) {
    __shared__ float parts[33];
    for (int offset = 16; offset > 0; offset /= 2) {
        float y = __shfl_xor_sync(~0u, x, offset);
        x = sum ? x + y : fmaxf(x, y);
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < blockDim.x / 32; w++) x = sum ? x + parts[w] : fmaxf(x, parts[w]);
        parts[32] = x;
    }
    __syncthreads();
    x = parts[32];
    __syncthreads();
    return x;
}

extern "C" __global__ void softmax_block(const float *in, float *out, int columns) {
    const float *row = in + blockIdx.x * columns;
    float high = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) high = fmaxf(high, row[i]);
    high = block_reduce(high, false);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(row[i] - high);
    sum = block_reduce(sum, true);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) out[blockIdx.x * columns + i] = expf(row[i] - high) / sum;
}

// The sum and the maximum in one pass over bf16, fast exponentials.
extern "C" __global__ void softmax_online(const __nv_bfloat16 *in, __nv_bfloat16 *out, int columns) {
    int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    float high = -INFINITY, sum = 0;
    for (int i = lane; i < columns; i += 32) {
        float x = __bfloat162float(in[row * columns + i]), next = fmaxf(high, x);
        sum = sum * __expf(high - next) + __expf(x - next);
        high = next;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        float other = __shfl_xor_sync(~0u, high, offset), more = __shfl_xor_sync(~0u, sum, offset);
        float next = fmaxf(high, other);
        sum = sum * __expf(high - next) + more * __expf(other - next);
        high = next;
    }
    for (int i = lane; i < columns; i += 32)
        out[row * columns + i] = __float2bfloat16(__expf(__bfloat162float(in[row * columns + i]) - high) / sum);
}

// Four elements a load; columns is a multiple of 4.
extern "C" __global__ void layer_norm(const float4 *in, const float4 *weight, const float4 *bias, float4 *out, int columns) {
    const float4 *row = in + blockIdx.x * (columns / 4);
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < columns / 4; i += blockDim.x) {
        float4 x = row[i];
        sum += x.x + x.y + x.z + x.w;
    }
    float mean = block_reduce(sum, true) / columns;
    for (int i = threadIdx.x; i < columns / 4; i += blockDim.x) {
        float4 x = row[i];
        x.x -= mean, x.y -= mean, x.z -= mean, x.w -= mean;
        squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
    float scale = rsqrtf(block_reduce(squares, true) / columns + 1e-5f);
    for (int i = threadIdx.x; i < columns / 4; i += blockDim.x) {
        float4 x = __ldg(row + i), w = weight[i], b = bias[i];
        out[blockIdx.x * (columns / 4) + i] = make_float4((x.x - mean) * scale * w.x + b.x, (x.y - mean) * scale * w.y + b.y,
                                                          (x.z - mean) * scale * w.z + b.z, (x.w - mean) * scale * w.w + b.w);
    }
}

// The same of halves, two at a time, in half precision where that is enough.
extern "C" __global__ void layer_norm_half2(const __half2 *in, const __half2 *weight, const __half2 *bias, __half2 *out, int pairs) {
    in += blockIdx.x * pairs, out += blockIdx.x * pairs;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        float2 x = __half22float2(in[i]);
        sum += x.x + x.y;
        squares += x.x * x.x + x.y * x.y;
    }
    sum = block_reduce(sum, true), squares = block_reduce(squares, true);
    float mean = sum / (2 * pairs), scale = rsqrtf(squares / (2 * pairs) - mean * mean + 1e-5f);
    __half2 shift = __float2half2_rn(-mean), factor = __float2half2_rn(scale);
    for (int i = threadIdx.x; i < pairs; i += blockDim.x)
        out[i] = __hfma2(__hmul2(__hadd2(in[i], shift), factor), weight[i], bias[i]);
}
