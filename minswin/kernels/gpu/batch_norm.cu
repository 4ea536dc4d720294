// Batch normalisation of maps (B, C, H, W), of which each channel has a mean and a variance.

#include "rows.h"

// What the images of each chunk add to the mean of a channel, or to the mean of (x − mean)².
//
//   parts (chunks, C)   block (32, 8)   grid (C, chunks)
template <typename T, bool SQUARES>
__global__ void batch_norm_moments(
    const T* x, const T* mean, double* parts, Index images, Index C, Index places, Index chunk
) {
    Index c = blockIdx.x, start = blockIdx.y * chunk;
    Index end = start + chunk < images ? start + chunk : images;
    T m = SQUARES ? mean[c] : (T)0;
    double sum = 0;
    for (Index b = start; b < end; b++)
        for (Index p = threadIdx.y * WARP + threadIdx.x; p < places; p += WARP * DEEP) {
            T d = x[(b * C + c) * places + p] - m;
            sum += SQUARES ? d * d : d;
        }
    sum = sum_down(warp_sum(sum));
    if (threadIdx.x == 0 && threadIdx.y == 0)
        parts[blockIdx.y * C + c] = sum / ((double)images * places);
}

// Running statistics move towards those of a batch, and it is counted, all in place.
//
//   running_mean, running_var, mean, var (C,)   batches (1,)   any grid
template <typename T>
__global__ void batch_norm_follow(
    T* running_mean, T* running_var, Index* batches, const T* mean, const T* var, Index C,
    T momentum, T unbiased
) {
    Index first = blockIdx.x * (Index)blockDim.x + threadIdx.x;
    if (first == 0) batches[0] += 1;
    for (Index c = first; c < C; c += gridDim.x * (Index)blockDim.x) {
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (var[c] * unbiased - running_var[c]);
    }
}

// x, y: `size` numbers in maps of `places` each   weight, bias, mean, var (C,)   any grid
template <typename T>
__global__ void batch_norm_forward(
    const T* x, const T* weight, const T* bias, const T* mean, const T* var, T* y,
    Index size, Index C, Index places, T eps
) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step) {
        Index c = i / places % C;
        y[i] = (x[i] - mean[c]) * (1 / sqrt(var[c] + eps)) * weight[c] + bias[c];
    }
}

// The gradients of weight and bias, added up over the images of each chunk: see sum_columns.
//
//   sums (chunks, 2, C): of weight, of bias   block (32, 8)   grid (C, chunks)
template <typename T>
__global__ void batch_norm_parameters(
    const T* x, const T* mean, const T* var, const T* g, double* sums,
    Index images, Index C, Index places, Index chunk, T eps
) {
    Index c = blockIdx.x, start = blockIdx.y * chunk;
    Index end = start + chunk < images ? start + chunk : images;
    T m = mean[c], r = 1 / sqrt(var[c] + eps);
    double of_weight = 0, of_bias = 0;
    for (Index b = start; b < end; b++)
        for (Index p = threadIdx.y * WARP + threadIdx.x; p < places; p += WARP * DEEP) {
            Index i = (b * C + c) * places + p;
            of_weight += g[i] * ((x[i] - m) * r);
            of_bias += g[i];
        }
    of_weight = sum_down(warp_sum(of_weight));
    of_bias = sum_down(warp_sum(of_bias));
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        sums[blockIdx.y * 2 * C + c] = of_weight;
        sums[blockIdx.y * 2 * C + C + c] = of_bias;
    }
}

//   g, dx: `size` numbers   share: of one number in the mean of its channel   any grid
template <typename T>
__global__ void batch_norm_backward(
    const T* x, const T* weight, const T* mean, const T* var, const T* g, const T* dweight,
    const T* dbias, T* dx, Index size, Index C, Index places, T eps, T share
) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step) {
        Index c = i / places % C;
        T r = 1 / sqrt(var[c] + eps), xhat = (x[i] - mean[c]) * r;
        T level = dbias[c] * share, along = dweight[c] * share;  // through mean and variance
        dx[i] = (g[i] - level - xhat * along) * (weight[c] * r);
    }
}
