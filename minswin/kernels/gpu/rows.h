// Sums and maxima over the threads of a warp and of a block. All are in a fixed order, so that the
// same numbers give the same result, bit for bit.

#ifndef ROWS_H
#define ROWS_H

typedef long long Index;  // counts elements: one array may have more than 2³¹

constexpr int WARP = 32;  // threads that run together
constexpr int DEEP = 8;   // rows of a block of 32 × 8 threads

// The dynamic memory of a block, as numbers.
template <typename T>
__device__ T* shared_numbers() {
    extern __shared__ __align__(16) char dynamic_memory[];
    return (T*)dynamic_memory;
}

// What dropout multiplies number `at` by, where one truth value is for `share` numbers in a row.
template <typename T>
__device__ T kept(const void* keep, Index at, Index share, T scale) {
    return ((const unsigned char*)keep)[at / share] ? scale : (T)0;
}

// x y, rounded before anything is added to it: a sum has the bits of the separate steps.
__device__ inline float times(float x, float y) { return __fmul_rn(x, y); }
__device__ inline double times(double x, double y) { return __dmul_rn(x, y); }

template <typename T>
__device__ T warp_sum(T x) {
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;  // all threads of the warp have it
}

template <typename T>
__device__ T warp_max(T x) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        T other = __shfl_xor_sync(0xffffffffu, x, step);
        x = other > x ? other : x;
    }
    return x;
}

template <typename T>
__device__ T minus_infinity() {
    return log((T)0);
}

// Maximum of a row, and the sum of e^(x − maximum). One warp; each thread has every 32nd number.
template <typename T>
__device__ void softmax_numbers(const T* x, Index columns, T& top, T& total) {
    top = minus_infinity<T>();
    for (Index j = threadIdx.x; j < columns; j += WARP) top = x[j] > top ? x[j] : top;
    top = warp_max(top);
    total = 0;  // NaN where the row has NaN, which the maximum leaves out
    for (Index j = threadIdx.x; j < columns; j += WARP) total += exp(x[j] - top);
    total = warp_sum(total);
}

// Sum of what the threads of a column hold, in a block of 32 × ROWS. Only row 0 of it has the sum.
template <int ROWS = DEEP>
__device__ double sum_down(double x) {
    __shared__ double parts[ROWS][WARP];
    parts[threadIdx.y][threadIdx.x] = x;
    __syncthreads();
    double sum = 0;
    if (threadIdx.y == 0)
        for (int i = 0; i < ROWS; i++) sum += parts[i][threadIdx.x];
    __syncthreads();  // nobody writes the next parts before these are read
    return sum;
}

#endif
