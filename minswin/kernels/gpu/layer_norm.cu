// Layer normalisation. One warp has one row; it stays in the first cache while it is read again.

#include "rows.h"

//   x, y (rows, C)   weight, bias (C,)   mean, rstd (rows,)   block (32, n)   grid (rows / n)
template <typename T>
__global__ void layer_norm_forward(
    const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd, Index rows, Index C, T eps
) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;  // with all of its warp
    x += row * C;
    y += row * C;
    T sum = 0, squares = 0;
    for (Index j = threadIdx.x; j < C; j += WARP) sum += x[j];
    T m = warp_sum(sum) / C;
    for (Index j = threadIdx.x; j < C; j += WARP) squares += (x[j] - m) * (x[j] - m);
    T r = 1 / sqrt(warp_sum(squares) / C + eps);
    for (Index j = threadIdx.x; j < C; j += WARP) y[j] = (x[j] - m) * r * weight[j] + bias[j];
    if (threadIdx.x == 0) {
        mean[row] = m;
        rstd[row] = r;
    }
}

//   g, dx (rows, C)
template <typename T>
__global__ void layer_norm_backward(
    const T* x, const T* weight, const T* mean, const T* rstd, const T* g, T* dx,
    Index rows, Index C
) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;
    x += row * C;
    g += row * C;
    dx += row * C;
    T m = mean[row], r = rstd[row], level = 0, along = 0;
    for (Index j = threadIdx.x; j < C; j += WARP) {
        level += g[j] * weight[j];                       // through the mean
        along += g[j] * weight[j] * ((x[j] - m) * r);    // through the variance
    }
    level = warp_sum(level) / C;
    along = warp_sum(along) / C;
    for (Index j = threadIdx.x; j < C; j += WARP)
        dx[j] = (g[j] * weight[j] - level - (x[j] - m) * r * along) * r;
}

// The gradients of weight and bias, added up over the rows of each chunk: see sum_columns.
//
//   sums (chunks, 2, C): of weight, of bias   block (32, 8)   grid (C / 32, chunks)
template <typename T>
__global__ void layer_norm_parameters(
    const T* x, const T* mean, const T* rstd, const T* g, double* sums,
    Index rows, Index C, Index chunk
) {
    Index column = blockIdx.x * (Index)WARP + threadIdx.x;
    Index start = blockIdx.y * chunk, end = start + chunk < rows ? start + chunk : rows;
    double of_weight = 0, of_bias = 0;
    if (column < C)
        for (Index row = start + threadIdx.y; row < end; row += DEEP) {
            T dy = g[row * C + column];
            of_weight += dy * ((x[row * C + column] - mean[row]) * rstd[row]);
            of_bias += dy;
        }
    of_weight = sum_down(of_weight);
    of_bias = sum_down(of_bias);
    if (threadIdx.y == 0 && column < C) {
        sums[blockIdx.y * 2 * C + column] = of_weight;
        sums[blockIdx.y * 2 * C + C + column] = of_bias;
    }
}
