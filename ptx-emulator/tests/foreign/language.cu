// What C++ makes of the rest of the instruction set: calls, tables, classes, constants, wide and packed arithmetic, mathematics.
#include <cassert>
#include <cstdint>
#include <cstdio>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

__constant__ float coefficients[8] = {1.f, -0.5f, 0.25f, -0.125f, 0.0625f, -0.03125f, 0.015625f, -0.0078125f};
__constant__ const char *const names[3] = {"zero", "one", "two"};
__device__ int counter = 7;
__device__ double table[4] = {0.5, 1.5, -2.5, 1e300};

__device__ __noinline__ float polynomial(float x, int terms) {
    float sum = 0;
    for (int i = terms - 1; i >= 0; i--) sum = fmaf(sum, x, coefficients[i]);
    return sum;
}

extern "C" __global__ void constants(const float *in, float *out, double *doubles) {
    int i = threadIdx.x;
    out[i] = polynomial(__ldg(in + i), 1 + i % 8);
    doubles[i] = table[i % 4] * 2.0;
    if (i == 0) counter += 1;
    __syncthreads();
    if (i == 1) doubles[64] = counter;
}

extern "C" __global__ void prints(int value) {
    if (threadIdx.x < 3 && blockIdx.x == 0)
        printf("%d: %s %5.2f %c %08x %lld%%\n", threadIdx.x, names[threadIdx.x], value * 0.5, 'a' + threadIdx.x, value, -1234567890123ll);
}

extern "C" __global__ void asserts(const int *in) {
    assert(in[threadIdx.x] >= 0 && "no negative number");
}

struct Shape {
    __device__ virtual float area() const = 0;
    __device__ virtual int corners() const { return 0; }
};
struct Square : Shape {
    float side;
    __device__ Square(float s) : side(s) {}
    __device__ float area() const override { return side * side; }
    __device__ int corners() const override { return 4; }
};
struct Disc : Shape {
    float radius;
    __device__ Disc(float r) : radius(r) {}
    __device__ float area() const override { return 3.f * radius * radius; }
};

extern "C" __global__ void virtual_calls(const float *in, float *areas, int *corners) {
    Square square(in[threadIdx.x]);
    Disc disc(in[threadIdx.x]);
    Shape *shape = threadIdx.x % 3 ? (Shape *)&disc : (Shape *)&square;
    areas[threadIdx.x] = shape->area();
    corners[threadIdx.x] = shape->corners();
}

// Lists on the heap that one kernel makes and a later one takes apart.
struct Node {
    int value;
    Node *next;
};
__device__ Node *heads[64];

extern "C" __global__ void makes_lists(const int *in) {
    Node *head = nullptr;
    for (int i = 0; i <= threadIdx.x % 4; i++) head = new Node{in[threadIdx.x] + i, head};
    heads[threadIdx.x] = head;
}

extern "C" __global__ void sums_lists(int *out, bool twice) {
    int sum = 0;
    for (Node *node = heads[threadIdx.x]; node;) {
        Node *next = node->next;
        sum += node->value;
        delete node;
        if (twice) delete node;
        node = next;
    }
    out[threadIdx.x] = sum;
}

__device__ __noinline__ int add(int a, int b) { return a + b; }
__device__ __noinline__ int subtract(int a, int b) { return a - b; }
__device__ __noinline__ int multiply(int a, int b) { return a * b; }
typedef int (*Operation)(int, int);
__device__ Operation operations[3] = {add, subtract, multiply};

extern "C" __global__ void function_pointers(const int *a, const int *b, int *out) {
    out[threadIdx.x] = operations[threadIdx.x % 3](a[threadIdx.x], b[threadIdx.x]);
}

extern "C" __global__ void switches(const int *in, int *out) {
    int x = in[threadIdx.x], y;
    switch (x) {
    case 0: y = 17; break;
    case 1: y = x * threadIdx.x; break;
    case 2: y = __clz(threadIdx.x); break;
    case 3: y = __brev(threadIdx.x); break;
    case 4: y = threadIdx.x / 3; // falls through
    case 5: y = threadIdx.x % 7; break;
    case 6: y = __popc(threadIdx.x); break;
    case 7: y = -int(threadIdx.x); break;
    case 8: y = threadIdx.x << 3 ^ 0x55; break;
    default: y = -1;
    }
    out[threadIdx.x] = y;
}

// Quotients and remainders of every width, by values that the compiler does not know.
extern "C" __global__ void divisions(const int64_t *a, const int64_t *b, int64_t *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int64_t x = a[i], y = b[i];
    out[0 * n + i] = x / y;
    out[1 * n + i] = x % y;
    out[2 * n + i] = uint64_t(x) / uint64_t(y);
    out[3 * n + i] = uint64_t(x) % uint64_t(y);
    out[4 * n + i] = int32_t(x) / int32_t(y | 1);
    out[5 * n + i] = uint32_t(x) % uint32_t(y | 1);
    out[6 * n + i] = int16_t(x) / int16_t(y | 1);
    out[7 * n + i] = __mul64hi(x, y);
    out[8 * n + i] = x / 1000003;
}

struct Wide { unsigned __int128 value; };
extern "C" __global__ void wide_integers(const ulonglong2 *a, const ulonglong2 *b, ulonglong2 *out) {
    unsigned __int128 x = (unsigned __int128)a[threadIdx.x].y << 64 | a[threadIdx.x].x;
    unsigned __int128 y = (unsigned __int128)b[threadIdx.x].y << 64 | b[threadIdx.x].x;
    unsigned __int128 all[4] = {x + y, x - y, x * y, x >> (threadIdx.x % 127 + 1)};
    for (int k = 0; k < 4; k++) out[k * blockDim.x + threadIdx.x] = make_ulonglong2(all[k], all[k] >> 64);
}

// Registers that are bytes and pairs: the intrinsics for them.
extern "C" __global__ void packed_integers(const unsigned *a, const unsigned *b, unsigned *out) {
    unsigned x = a[threadIdx.x], y = b[threadIdx.x], n = blockDim.x, t = threadIdx.x;
    out[0 * n + t] = __vadd2(x, y);
    out[1 * n + t] = __vsub2(x, y);
    out[2 * n + t] = __vmaxs2(x, y);
    out[3 * n + t] = __vminu2(x, y);
    out[4 * n + t] = __vadd4(x, y);
    out[5 * n + t] = __vabsdiffu4(x, y);
    out[6 * n + t] = __vcmpgtu4(x, y);
#ifdef __CUDACC_DEBUG__
    // The debug build of nvcc 13.5 refuses the intrinsic.
    asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(out[7 * n + t]) : "r"(x), "r"(y), "r"(5u));
#else
    out[7 * n + t] = __dp4a(x, y, 5u);
#endif
    out[8 * n + t] = __byte_perm(x, y, 0x3715);
    out[9 * n + t] = __funnelshift_l(x, y, t);
    out[10 * n + t] = __funnelshift_rc(x, y, t);
    out[11 * n + t] = __sad(x, y, 3);
    out[12 * n + t] = __viaddmax_s32_relu(x, y, 100);
    out[13 * n + t] = __vimax3_s32(x, y, 7);
    out[14 * n + t] = __vaddss2(x, y);
    out[15 * n + t] = __vavgu4(x, y);
}

extern "C" __global__ void double_mathematics(const double *in, double *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double x = in[i];
    double all[] = {sin(x), cos(x), exp(x), log(fabs(x)), pow(fabs(x), 1.7), atan2(x, 2.0), tanh(x), sqrt(fabs(x)), cbrt(x),
                    erf(x), 1.0 / x, fmod(x, 0.7), floor(x), rint(x), ldexp(x, 3), tgamma(fabs(x) + 0.5)};
    for (int k = 0; k < 16; k++) out[k * n + i] = all[k];
}

extern "C" __global__ void float_mathematics(const float *in, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = in[i];
    float all[] = {sinf(x), cosf(x), expf(x), logf(fabsf(x)), powf(fabsf(x), 1.7f), atanf(x), tanhf(x), sqrtf(fabsf(x)),
                   erff(x), 1.f / x, fmodf(x, 0.7f), truncf(x), roundf(x), exp2f(x), log1pf(fabsf(x)), hypotf(x, 2.f)};
    for (int k = 0; k < 16; k++) out[k * n + i] = all[k];
}

extern "C" __global__ void half_arithmetic(const __half2 *a, const __half2 *b, __half2 *out) {
    __half2 x = a[threadIdx.x], y = b[threadIdx.x];
    __half2 all[] = {__hadd2(x, y), __hsub2(x, y), __hmul2(x, y), __h2div(x, y), __hfma2(x, y, x), __hneg2(x), __habs2(x),
                     __hmin2(x, y), __hadd2_sat(x, y), h2exp2(x), h2rcp(y), h2floor(x), __hgt2(x, y), __lowhigh2highlow(x)};
    for (int k = 0; k < 14; k++) out[k * blockDim.x + threadIdx.x] = all[k];
}

extern "C" __global__ void half_conversions(const float *in, int *out, int n) {
    float x = in[threadIdx.x];
    __half h = __float2half_rn(x);
    int t = threadIdx.x;
    out[0 * n + t] = __half2int_rn(h);
    out[1 * n + t] = __half2ushort_rz(h);
    out[2 * n + t] = __half_as_ushort(__float2half_ru(x));
    out[3 * n + t] = __half_as_ushort(__int2half_rd(int(x * 1000)));
    out[4 * n + t] = __hisnan(h) + 2 * __hisinf(h);
    out[5 * n + t] = h > __float2half(1.f);
    out[6 * n + t] = __float2int_ru(x);
    out[7 * n + t] = __float2uint_rd(x);
}

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void bfloat_arithmetic(const __nv_bfloat162 *a, const __nv_bfloat162 *b, __nv_bfloat162 *out) {
    __nv_bfloat162 x = a[threadIdx.x], y = b[threadIdx.x];
    __nv_bfloat162 all[] = {__hadd2(x, y), __hsub2(x, y), __hmul2(x, y), __hfma2(x, y, x), __hneg2(x), __habs2(x),
                            __hmax2(x, y), __hmin2(x, y)};
    for (int k = 0; k < 8; k++) out[k * blockDim.x + threadIdx.x] = all[k];
}
#endif

// There and back through numbers of 8 bits.
extern "C" __global__ void eight_bit_floats(const float *in, float *out, unsigned char *bytes, int n) {
    int t = threadIdx.x;
    float x = in[t];
    __nv_fp8_e4m3 narrow(x);
    __nv_fp8_e5m2 wide(x);
    bytes[t] = narrow.__x;
    bytes[n + t] = wide.__x;
    out[t] = float(narrow);
    out[n + t] = float(wide);
    __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t(narrow.__x | wide.__x << 8), __NV_E5M2);
    out[2 * n + t] = __half2float(__half(__half_raw{pair.x}));
}

// Arrays that stay in local memory, since their index is not known; a structure by value; a function with a loop that calls.
struct Many { int values[12]; short more[3]; };
__device__ __noinline__ Many rotated(Many many, int by) {
    Many out = many;
    for (int i = 0; i < 12; i++) out.values[(i + by) % 12] = many.values[i];
    out.more[by % 3] = by;
    return out;
}

extern "C" __global__ void local_arrays(const Many many, int *out) {
    Many mine = rotated(many, threadIdx.x % 12);
    int sum = 0;
    for (int i = 0; i < 12; i++) sum = sum * 3 + mine.values[i];
    out[threadIdx.x] = sum + mine.more[threadIdx.x % 3];
}

// Atomics of all kinds on one word each.
extern "C" __global__ void atomics(int *words, unsigned long long *longs, float *floats, __half2 *halves) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(words, t), atomicSub(words + 1, t), atomicMin(words + 2, -t), atomicMax(words + 3, t);
    atomicAnd(words + 4, ~(1 << t % 32)), atomicOr(words + 5, 1 << t % 16), atomicXor(words + 6, t);
    atomicInc((unsigned *)words + 7, 99), atomicDec((unsigned *)words + 8, 49);
    atomicAdd(longs, (unsigned long long)t << 20), atomicMax((long long *)longs + 1, (long long)t - 100);
    atomicAnd(longs + 2, ~(1ull << t % 64)), atomicExch(longs + 3, 5ull);
    atomicAdd(floats, 0.5f), atomicAdd(floats + 1, float(t));
    atomicAdd(halves, __floats2half2_rn(1.f, 0.25f));
    // Of a block's scope: each block has a word of its own.
    atomicAdd_block(words + (blockIdx.x ? 13 : 9), 1), atomicAdd_system(words + 10, 2);
    unsigned *lock = (unsigned *)words + 11;
    for (bool done = false; !done;)
        if (atomicCAS(lock, 0u, 1u) == 0) {
            __threadfence();
            words[12] = ((volatile int *)words)[12] + 1;
            __threadfence();
            atomicExch(lock, 0u);
            done = true;
        }
}
