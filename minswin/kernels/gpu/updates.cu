// The steps of SGD and AdamW on all parameters of a model in one launch.

#include "rows.h"

constexpr Index CHUNK = 4096;  // numbers of one parameter that one block has

// What the arrays of one parameter are: a row of a table in the memory of the GPU.
struct Arrays {
    Index p, g, m, v;   // where they lie; SGD has no m
    Index size, first;  // numbers, and the first of the blocks that have this parameter
};

// The last row whose first block is not behind this one.
__device__ inline Index parameter_of(const Arrays* table, Index parameters, Index block) {
    Index low = 0, high = parameters;
    while (high - low > 1) {
        Index middle = (low + high) / 2;
        if (table[middle].first <= block) low = middle;
        else high = middle;
    }
    return low;
}

//   table, decay (parameters,)   grid (Σ ⌈size / CHUNK⌉)
template <typename T>
__global__ void sgd_steps(
    const Arrays* table, const double* decay, Index parameters, T lr, T momentum, bool nesterov
) {
    Index k = parameter_of(table, parameters, blockIdx.x);
    Arrays a = table[k];
    T *p = (T*)a.p, *v = (T*)a.v, shrink = decay[k];
    const T* g = (const T*)a.g;
    Index start = (blockIdx.x - a.first) * CHUNK;
    Index end = start + CHUNK < a.size ? start + CHUNK : a.size;
    for (Index i = start + threadIdx.x; i < end; i += blockDim.x) {
        T slope = shrink != 0 ? g[i] + shrink * p[i] : g[i];
        T speed = momentum * v[i] + slope;
        v[i] = speed;
        p[i] -= lr * (nesterov ? slope + momentum * speed : speed);
    }
}

//   rate = lr / (1 − β₁ᵗ)   root = √(1 − β₂ᵗ)   new1, new2 = 1 − β₁, 1 − β₂
template <typename T>
__global__ void adamw_steps(
    const Arrays* table, const double* decay, Index parameters,
    double lr, T rate, T new1, T beta2, T new2, T root, T eps
) {
    Index k = parameter_of(table, parameters, blockIdx.x);
    Arrays a = table[k];
    T *p = (T*)a.p, *m = (T*)a.m, *v = (T*)a.v, shrink = 1 - lr * decay[k];
    const T* g = (const T*)a.g;
    Index start = (blockIdx.x - a.first) * CHUNK;
    Index end = start + CHUNK < a.size ? start + CHUNK : a.size;
    for (Index i = start + threadIdx.x; i < end; i += blockDim.x) {
        T mean = m[i] + new1 * (g[i] - m[i]);
        T square = beta2 * v[i] + new2 * (g[i] * g[i]);
        m[i] = mean;
        v[i] = square;
        p[i] = p[i] * shrink - rate * (mean / (sqrt(square) / root + eps));
    }
}
