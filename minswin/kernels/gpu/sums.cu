// Sums over the rows of a matrix: the gradients of what was broadcast.

#include "rows.h"

// y[chunk, column] = Σ x[row, column] over the rows of each chunk, added in double. Without
// atomics the order is fixed; two launches, the second on one chunk, use the whole GPU.
//
//   x (rows, columns)   y (chunks, columns)   grid (columns / 32, chunks)
//   block (32, 8), or (32, 32) for the LAST launch, which has one chunk
//   rest: columns from `split` on go there, so that both halves are arrays of their own
template <typename S, typename T, bool LAST>
__global__ void sum_columns(
    const S* x, T* y, T* rest, Index rows, Index columns, Index chunk, Index split
) {
    constexpr int ROWS = LAST ? WARP : DEEP;
    Index column = blockIdx.x * (Index)WARP + threadIdx.x;
    Index start = blockIdx.y * chunk, end = start + chunk < rows ? start + chunk : rows;
    double sum = 0;
    if (column < columns)
        for (Index row = start + threadIdx.y; row < end; row += ROWS)
            sum += x[row * columns + column];
    sum = sum_down<ROWS>(sum);
    if (threadIdx.y == 0 && column < split) y[blockIdx.y * split + column] = sum;
    else if (threadIdx.y == 0 && column < columns) rest[column - split] = sum;
}
