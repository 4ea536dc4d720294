// Cross-entropy of each row of logits, and its derivative. One warp has one row.

#include "rows.h"

// The target of a class: (1 − ε) t + ε/K, where t is 1 for the label, or the given probability.
//
//   targets: HARD labels (rows,) of 64 bits, or else probabilities (rows, K)
template <typename T, bool HARD>
__device__ T target(const void* targets, Index row, Index K, Index j, T keep, T even) {
    T t = HARD ? (T)(((const Index*)targets)[row] == j) : ((const T*)targets)[row * K + j];
    return t * keep + even;
}

//   logits, y = log softmax (rows, K)   losses (rows,)   block (32, n)   grid (rows / n)
template <typename T, bool HARD>
__global__ void cross_entropy_forward(
    const T* logits, const void* targets, T* y, double* losses, Index rows, Index K, T keep, T even
) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;  // with all of its warp
    logits += row * K;
    y += row * K;
    T top, total, sum = 0;
    softmax_numbers(logits, K, top, total);
    T log_total = log(total);
    for (Index j = threadIdx.x; j < K; j += WARP) {
        y[j] = logits[j] - top - log_total;
        T t = target<T, HARD>(targets, row, K, j, keep, even);
        if (t != 0) sum += t * y[j];  // 0 · log 0 is 0
    }
    sum = warp_sum(sum);
    if (HARD) {  // a label that is no class makes the loss NaN: an error would stop the GPU
        Index label = ((const Index*)targets)[row];
        if (label < 0 || label >= K) sum = log((T)-1);
    }
    if (threadIdx.x == 0) losses[row] = -(double)sum / rows;
}

//   g (1,): the cotangent of the mean   dx (rows, K)   dtargets (rows, K), unless HARD
template <typename T, bool HARD>
__global__ void cross_entropy_backward(
    const T* y, const void* targets, const T* g, T* dx, T* dtargets,
    Index rows, Index K, T keep, T even
) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;
    y += row * K;
    T share = g[0] * ((T)-1 / rows), along = 0;
    for (Index j = threadIdx.x; j < K; j += WARP)
        along += share * target<T, HARD>(targets, row, K, j, keep, even);
    along = warp_sum(along);
    for (Index j = threadIdx.x; j < K; j += WARP) {
        T t = target<T, HARD>(targets, row, K, j, keep, even);
        dx[row * K + j] = share * t - exp(y[j]) * along;
        if (!HARD) dtargets[row * K + j] = share * keep * y[j];
    }
}
