// The gradient of overlapping patches, put back on the map: undoes `unfold` of reference/conv.py.

#include "rows.h"

// dx[b, c, y, x] = Σ over (i, j) of g[b, (y + ph − i) / sh, (x + pw − j) / sw, c, i, j], where these
// are places of patches; in the order of the definition, so with its bits.
//
//   g (B, h, w, C, kh, kw)   dx (B, C, H, W), of `size` numbers   any grid
template <typename T>
__global__ void fold(
    const T* g, T* dx, Index size, Index C, Index H, Index W, Index h, Index w, Index kh, Index kw,
    Index sh, Index sw, Index ph, Index pw
) {
    Index step = gridDim.x * (Index)blockDim.x;
    for (Index n = blockIdx.x * (Index)blockDim.x + threadIdx.x; n < size; n += step) {
        Index x = n % W + pw, y = n / W % H + ph, c = n / (W * H) % C, b = n / (W * H * C);
        T sum = 0;
        for (Index i = 0; i < kh && i <= y; i++) {
            Index row = (y - i) / sh;
            if (row >= h || row * sh != y - i) continue;
            for (Index j = 0; j < kw && j <= x; j++) {
                Index column = (x - j) / sw;
                if (column >= w || column * sw != x - j) continue;
                sum += g[(((b * h + row) * w + column) * C + c) * kh * kw + i * kw + j];
            }
        }
        dx[n] = sum;
    }
}
