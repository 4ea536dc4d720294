// Sums over the rows of a matrix: the gradients of what was broadcast.

#include "rows.h"

// y[chunk, column] = Σ x[row, column] over the rows of each chunk, added in double. Without
// atomics the order is fixed; two launches, the second on one chunk, use the whole GPU.
//
//   x (rows, columns)   y (chunks, columns)   block (32, 8)   grid (columns / 32, chunks)
template <typename S, typename T>
__global__ void sum_columns(const S* x, T* y, Index rows, Index columns, Index chunk) {
    Index column = blockIdx.x * (Index)WARP + threadIdx.x;
    Index start = blockIdx.y * chunk, end = start + chunk < rows ? start + chunk : rows;
    double sum = 0;
    if (column < columns)
        for (Index row = start + threadIdx.y; row < end; row += DEEP)
            sum += x[row * columns + column];
    sum = sum_down(sum);
    if (threadIdx.y == 0 && column < columns) y[blockIdx.y * columns + column] = sum;
}
