// Rows of D numbers in registers, and rows of the map or of a tile: read, written and multiplied
// four numbers at a time.

#ifndef FOURS_H
#define FOURS_H

// Four neighbours, read and written in one instruction, or in two of doubles.
template <typename T>
struct __align__(16) Four {
    T at[4];
};

// Whether the d numbers of a row of the map can be read and written four at a time. A map may begin
// anywhere; all rows of one are alike, since C is a multiple of d.
template <typename T>
__device__ bool in_fours(const T* row, int d) {
    return d % 4 == 0 && (size_t)row % sizeof(Four<float>) == 0;
}

// The four numbers of a row from its c-th on; 0 from d on.
template <typename T>
__device__ Four<T> read_four(const T* row, int c, int d, bool fours) {
    if (fours && c < d) return *(const Four<T>*)(row + c);
    Four<T> four;
#pragma unroll
    for (int i = 0; i < 4; i++) four.at[i] = c + i < d ? row[c + i] : (T)0;
    return four;
}

template <typename T, int D>
__device__ void clear_row(T* row) {
#pragma unroll
    for (int c = 0; c < D; c++) row[c] = 0;
}

// A row of the map, times `factor`, into registers; 0 from d to D.
template <typename T, int D>
__device__ void load_row(T* row, const T* from, int d, T factor) {
    bool fours = in_fours(from, d);
#pragma unroll
    for (int c = 0; c < D; c += 4) {
        Four<T> four = read_four(from, c, d, fours);
#pragma unroll
        for (int i = 0; i < 4; i++) row[c + i] = four.at[i] * factor;
    }
}

template <typename T, int D>
__device__ void store_row(const T* row, T* to, int d, T factor) {
    bool fours = in_fours(to, d);
#pragma unroll
    for (int c = 0; c < D; c += 4) {
        Four<T> four;
#pragma unroll
        for (int i = 0; i < 4; i++) four.at[i] = row[c + i] * factor;
        if (fours && c < d) *(Four<T>*)(to + c) = four;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (!fours && c + i < d) to[c + i] = four.at[i];
    }
}

// Σ x y of a row x in registers and a row y of the map
template <typename T, int D>
__device__ T dot_with_map(const T* x, const T* y, int d) {
    bool fours = in_fours(y, d);
    T sum = 0;
#pragma unroll
    for (int c = 0; c < D; c += 4) {
        Four<T> four = read_four(y, c, d, fours);
#pragma unroll
        for (int i = 0; i < 4; i++) sum += x[c + i] * four.at[i];
    }
    return sum;
}

// Σ x y of a row x in registers and a row y of a tile; in four sums, which do not wait for another.
template <typename T, int D>
__device__ T dot(const T* x, const T* y) {
    T sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int c = 0; c < D; c += 4) {
        Four<T> four = *(const Four<T>*)(y + c);
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] += x[c + i] * four.at[i];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// y += a x, for a row y in registers and a row x of a tile
template <typename T, int D>
__device__ void add_scaled(T* y, T a, const T* x) {
#pragma unroll
    for (int c = 0; c < D; c += 4) {
        Four<T> four = *(const Four<T>*)(x + c);
#pragma unroll
        for (int i = 0; i < 4; i++) y[c + i] += a * four.at[i];
    }
}

#endif
