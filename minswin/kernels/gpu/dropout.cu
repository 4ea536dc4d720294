// Dropout, and its derivative, which is the same: what is kept is scaled, the rest becomes 0. Where
// it ADDS, to a residual: onto + dropout(x).

#include "rows.h"

//   x, onto, y (size,)   keep (size / share,) truth values, each for `share` numbers   any grid
template <typename T, bool ADDS>
__global__ void dropout(
    const T* x, const void* keep, const T* onto, T* y, Index size, Index share, T scale
) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step) {
        T number = times(x[i], kept(keep, i, share, scale));
        y[i] = ADDS ? onto[i] + number : number;
    }
}
