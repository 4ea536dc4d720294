// GELU, exact and with tanh; and the epilogue of the first product of an MLP, bias + GELU.

#include "rows.h"

#if __has_include(<cuda_bf16.h>)  // CuPy brings them; the types of 16 bits that are written here
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

// x Φ(x) and its derivative Φ(x) + x φ(x); with TANH, Φ is ½ (1 + tanh(k (x + c x³))).
template <typename T, bool TANH>
__device__ void gelu(T x, T& value, T& slope) {
    T cdf, bell;  // bell: the derivative of cdf
    if (TANH) {
        const T k = 0.7978845608028654, c = 0.044715;  // k = √(2/π)
        T t = tanh(k * (x + c * x * x * x));
        cdf = (T)0.5 * (1 + t);
        bell = (T)0.5 * (1 - t * t) * k * (1 + 3 * c * x * x);
    } else {
        cdf = (T)0.5 * erfc(x * (T)-0.7071067811865476);  // keeps the digits of small tails
        bell = exp((T)-0.5 * x * x) * (T)0.3989422804014327;
    }
    value = x * cdf;
    slope = cdf + x * bell;
}

//   x, y (size,)   any grid: each thread strides over the array
template <typename T, bool TANH>
__global__ void gelu_forward(const T* x, T* y, Index size) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step) {
        T slope;
        gelu<T, TANH>(x[i], y[i], slope);
    }
}

template <typename T, bool TANH>
__global__ void gelu_backward(const T* x, const T* g, T* dx, Index size) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step) {
        T value, slope;
        gelu<T, TANH>(x[i], value, slope);
        dx[i] = g[i] * slope;
    }
}

// y = GELU(x + bias). A thread stays in its column, so that it reads the bias once.
//
//   x (rows, columns)   y the same, of T or of 16 bits, for the product that follows
//   bias (columns,)   block (32, 8)   grid (columns / 32, chunks)
template <typename T, typename S>
__global__ void bias_gelu_forward(
    const T* x, const T* bias, S* y, Index rows, Index columns, Index chunk
) {
    Index column = blockIdx.x * (Index)WARP + threadIdx.x;
    Index start = blockIdx.y * chunk, end = start + chunk < rows ? start + chunk : rows;
    if (column >= columns) return;
    T b = bias[column];
    for (Index row = start + threadIdx.y; row < end; row += DEEP) {
        T value, slope;
        gelu<T, false>(x[row * columns + column] + b, value, slope);
        y[row * columns + column] = value;
    }
}

// y once more, dx = g · GELU'(x + bias), which may lie where g is, and the sums of dx over the rows
// of each chunk, from which the bias has its gradient.
//
//   g, y, dx (rows, columns)   sums (chunks, columns)
template <typename T, typename S>
__global__ void bias_gelu_backward(
    const T* x, const T* bias, const T* g, S* y, S* dx, double* sums,
    Index rows, Index columns, Index chunk
) {
    Index column = blockIdx.x * (Index)WARP + threadIdx.x;
    Index start = blockIdx.y * chunk, end = start + chunk < rows ? start + chunk : rows;
    double sum = 0;
    if (column < columns) {
        T b = bias[column];
        for (Index row = start + threadIdx.y; row < end; row += DEEP) {
            Index i = row * columns + column;
            T value, slope;
            gelu<T, false>(x[i] + b, value, slope);
            T dh = g[i] * slope;
            y[i] = value;
            dx[i] = dh;
            sum += dh;
        }
    }
    sum = sum_down(sum);
    if (threadIdx.y == 0 && column < columns) sums[blockIdx.y * columns + column] = sum;
}
