// Dropout, and its derivative, which is the same: what is kept is scaled, the rest becomes 0.

#include "rows.h"

//   x, y (size,)   keep (size / share,) truth values: one for `share` numbers in a row   any grid
template <typename T>
__global__ void dropout(const T* x, const void* keep, T* y, Index size, Index share, T scale) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index i = blockIdx.x * (Index)blockDim.x + threadIdx.x; i < size; i += step)
        y[i] = x[i] * (((const unsigned char*)keep)[i / share] ? scale : (T)0);
}
