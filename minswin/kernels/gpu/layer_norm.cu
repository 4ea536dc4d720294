// Layer normalisation. One warp has one row; it stays in the first cache while it is read again.

#include "rows.h"

// Where it ADDS, the row is x + branch · factor, which it writes into `total`. factor is 1 where share
// is 0; else dropout's: each truth value of `keep` is for `share` rows.
//
//   x, branch, total, y (rows, C)   keep (rows / share,)   weight, bias (C,)   mean, rstd (rows,)
//   block (32, n)   grid (rows / n)
template <typename T, bool ADDS>
__global__ void layer_norm_forward(
    const T* x, const T* branch, const void* keep, const T* weight, const T* bias, T* total, T* y,
    T* mean, T* rstd, Index rows, Index C, Index share, T scale, T eps
) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;  // with all of its warp
    x += row * C;
    y += row * C;
    if (ADDS) {
        T factor = share ? kept(keep, row, share, scale) : (T)1;
        branch += row * C;
        total += row * C;
        for (Index j = threadIdx.x; j < C; j += WARP) total[j] = x[j] + times(branch[j], factor);
        x = total;  // each thread reads what it has written
    }
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

// dx, to which ADDS adds `onto`; where share is not 0, also `dropped`, the gradient of the branch: dx
// times its factor, as above; and over the rows of each chunk the sums of the gradients of weight
// and bias: see sum_columns. A warp has every n-th row of a chunk, and sums of its own: of weight
// and of bias, in shared memory, where nobody but their own thread comes before the barrier.
//
//   g, onto, dx, dropped (rows, C)   keep (rows / share,)   sums (chunks, 2, C)   shared (n, 2, C)
//   block (32, n)   grid (chunks)
template <typename T, bool ADDS>
__global__ void layer_norm_backward(
    const T* x, const T* weight, const T* mean, const T* rstd, const T* g, const T* onto,
    const void* keep, T* dx, T* dropped, double* sums, Index rows, Index C, Index chunk,
    Index share, T scale
) {
    T *all = shared_numbers<T>(), *of_weight = all + threadIdx.y * 2 * C, *of_bias = of_weight + C;
    for (Index j = threadIdx.x; j < C; j += WARP) of_weight[j] = of_bias[j] = 0;
    Index start = blockIdx.x * chunk, end = start + chunk < rows ? start + chunk : rows;
    for (Index row = start + threadIdx.y; row < end; row += blockDim.y) {
        Index at = row * C;
        T m = mean[row], r = rstd[row], level = 0, along = 0;
        for (Index j = threadIdx.x; j < C; j += WARP) {
            T dy = g[at + j], xhat = (x[at + j] - m) * r;
            level += dy * weight[j];         // through the mean
            along += dy * weight[j] * xhat;  // through the variance
            of_weight[j] += dy * xhat;
            of_bias[j] += dy;
        }
        level = warp_sum(level) / C;
        along = warp_sum(along) / C;
        T factor = share ? kept(keep, row, share, scale) : (T)0;
        for (Index j = threadIdx.x; j < C; j += WARP) {
            T d = (g[at + j] * weight[j] - level - (x[at + j] - m) * r * along) * r;
            if (ADDS) d = onto[at + j] + d;
            dx[at + j] = d;
            if (share) dropped[at + j] = d * factor;
        }
    }
    __syncthreads();
    for (Index j = threadIdx.y * WARP + threadIdx.x; j < 2 * C; j += blockDim.y * WARP) {
        double sum = 0;
        for (Index w = 0; w < blockDim.y; w++) sum += all[w * 2 * C + j];
        sums[blockIdx.x * 2 * C + j] = sum;
    }
}
