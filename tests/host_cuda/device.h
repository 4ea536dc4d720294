// What CUDA gives to the sources of CuPy's kernels and ours, for a C++ compiler of the CPU.
//
// The types of 16 bits are CUDA's own headers, which can be compiled for the CPU too; threads,
// barriers, shuffles and shared memory are those of cuda_on_host.h.

#include <cuda_runtime_api.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __noinline__
#undef __shared__
#undef __constant__
#undef __align__
#undef __launch_bounds__
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

// CUDA's headers declare these with other types.
#define threadIdx threadIdx_
#define blockIdx blockIdx_
#define blockDim blockDim_
#define gridDim gridDim_
#include "cuda_on_host.h"
#undef __CUDACC__
#define __host__
#define __constant__ static
#define __noinline__ __attribute__((noinline))
#define __CUDACC_VER_MAJOR__ 13

// What -fsanitize=alignment calls where an address does not fit its type: a GPU stops there. So
// does the thread here, before it takes an instruction of the CPU that would end the process.
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(
    void* data, void* address
) {
    host::trouble = "a misaligned access";
    for (;;) host::wait(host::AT_BLOCK);
}

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;

template <typename To, typename From>
static inline To same_bits(From x) {
    To y;
    static_assert(sizeof(To) == sizeof(From), "");
    memcpy(&y, &x, sizeof(To));
    return y;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float rsqrt(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }

// Blocks run one after the other, so nothing can come between.
template <typename T, typename U>
T atomicAdd(T* p, U v) {
    T old = *p;
    *p = old + (T)v;
    return old;
}
template <typename T, typename U>
T atomicMax(T* p, U v) {
    T old = *p;
    *p = (T)v > old ? (T)v : old;
    return old;
}
template <typename T, typename U>
T atomicMin(T* p, U v) {
    T old = *p;
    *p = (T)v < old ? (T)v : old;
    return old;
}
template <typename T>
T atomicCAS(T* p, T expected, T v) {
    T old = *p;
    if (old == expected) *p = v;
    return old;
}
template <typename T, typename U>
T atomicExch(T* p, U v) {
    T old = *p;
    *p = (T)v;
    return old;
}
template <typename T>
T __ldg(const T* p) {
    return *p;
}
