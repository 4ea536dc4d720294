// Softmax and log softmax of rows, and their derivatives. One warp has one row.

#include "rows.h"

//   x, y (rows, columns)   block (32, n)   grid (rows / n)
template <typename T, bool LOG>
__global__ void softmax_forward(const T* x, T* y, Index rows, Index columns) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;  // with all of its warp
    x += row * columns;
    y += row * columns;
    T top, total;
    softmax_numbers(x, columns, top, total);
    T log_total = log(total);
    for (Index j = threadIdx.x; j < columns; j += WARP)
        y[j] = LOG ? x[j] - top - log_total : exp(x[j] - top) / total;
}

//   y the value, g its cotangent, dx (rows, columns)
template <typename T, bool LOG>
__global__ void softmax_backward(const T* y, const T* g, T* dx, Index rows, Index columns) {
    Index row = blockIdx.x * (Index)blockDim.y + threadIdx.y;
    if (row >= rows) return;
    y += row * columns;
    g += row * columns;
    dx += row * columns;
    T along = 0;
    for (Index j = threadIdx.x; j < columns; j += WARP) along += LOG ? g[j] : y[j] * g[j];
    along = warp_sum(along);
    for (Index j = threadIdx.x; j < columns; j += WARP)
        dx[j] = LOG ? g[j] - exp(y[j]) * along : y[j] * (g[j] - along);
}
