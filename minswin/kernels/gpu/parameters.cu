// What is done to the arrays of all parameters in a few launches: clipping, and their averages.

#include "rows.h"

constexpr Index CHUNK = 4096;  // numbers of one array that one block has
constexpr int MANY = 120;      // arrays of a launch: an argument may have 4 KB
constexpr int BLOCK = 256;

struct Row {
    Index to, from;     // where arrays lie: what is changed, what is only read
    Index size, first;  // numbers, and the first of the blocks that have them
};

// An argument by value, since a step that is being captured cannot copy one from the CPU.
struct Table {
    Row rows[MANY];
};

// The part of an array that this block has.
template <typename T>
struct Part {
    T* to;
    const T* from;
    Index start, end;
};

template <typename T>
__device__ Part<T> part_of_block(const Table& table, Index count) {
    Index k = 0;
    while (k + 1 < count && table.rows[k + 1].first <= blockIdx.x) k++;
    const Row& row = table.rows[k];
    Index start = (blockIdx.x - row.first) * CHUNK, end = start + CHUNK;
    return {(T*)row.to, (const T*)row.from, start, end < row.size ? end : row.size};
}

// The sum over a block, in a fixed order; all threads have it.
__device__ inline double sum_block(double x) {
    __shared__ double sums[BLOCK];
    sums[threadIdx.x] = x;
    __syncthreads();
    for (int step = BLOCK / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
        __syncthreads();
    }
    return sums[0];
}

//   sums (blocks,): of the squares that each block has
template <typename T>
__global__ void sum_squares(Table table, Index count, double* sums) {
    Part<T> part = part_of_block<T>(table, count);
    double sum = 0;
    for (Index i = part.start + threadIdx.x; i < part.end; i += BLOCK)
        sum += (double)part.from[i] * part.from[i];
    sum = sum_block(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The length of all, and the factor that brings it to `most`; 1 where it is less, or not finite.
//
//   sums (blocks,)   length, factor (1,)   one block
template <typename T>
__global__ void clip_factor(const double* sums, T* length, T* factor, Index blocks, double most) {
    double sum = 0;
    for (Index i = threadIdx.x; i < blocks; i += BLOCK) sum += sums[i];
    sum = sum_block(sum);
    if (threadIdx.x > 0) return;
    double norm = sqrt(sum);
    bool finite = norm - norm == 0;
    *length = norm;
    *factor = norm > most && finite ? most / (norm + 1e-6) : 1;
}

template <typename T>
__global__ void scale_all(Table table, Index count, const double* factor) {
    Part<T> part = part_of_block<T>(table, count);
    T by = *factor;
    if (by == 1) return;
    for (Index i = part.start + threadIdx.x; i < part.end; i += BLOCK) part.to[i] *= by;
}

// a ← a + share (p − a)
template <typename T>
__global__ void average_all(Table table, Index count, T share) {
    Part<T> part = part_of_block<T>(table, count);
    for (Index i = part.start + threadIdx.x; i < part.end; i += BLOCK)
        part.to[i] += share * (part.from[i] - part.to[i]);
}
