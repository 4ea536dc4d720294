// Shifted-window attention, forward and backward, each as one kernel: roll, partition, bias, mask,
// softmax, weighting, merge and roll back. Nothing of size windows × N × N is ever stored.
//
// A block has one window of one image, and as many heads of it as fill a few warps; a thread has
// one token of the window and one head, and holds its rows of D numbers in registers. All threads
// walk over the keys (or queries) together, a tile at a time from shared memory, where a whole warp
// reads the same number at once.
//
//   qkv (B, H, W, 3, heads, d)   table ((2 Th − 1)(2 Tw − 1), heads)   y, g (B, H, W, heads, d)
//   stats (B, windows, heads, N, 2): of each row of logits the maximum, 1 / Σ e^(logit − maximum)
//   block (N, heads of a block)   grid (windows, blocks of heads, B)   D ≥ d: loops of fixed length
//
// Shared memory, in numbers of type T, once for each head of a block, and then in ints once:
//   forward    keys, values: tile × D each   bias: R = (2 Mh − 1)(2 Mw − 1)
//   backward   the same, and ds: tile × N   of_bias: R   numbers: 3 × N
//   ints       places, labels, offsets: N each

#include "fours.h"
#include "rows.h"
#include "window_index.h"

constexpr int STEP = 8;  // keys whose logits are in registers at a time; a tile is a multiple

// The window of a block, and what its threads share about the tokens.
struct Window {
    Windows map;
    int N, R;
    int *places, *labels;  // of each token: where it lies on the map, and its region
    int* offsets;          // p and q have row offsets[p] − offsets[q] + centre of the bias
    int centre;
};

__device__ inline Window describe_window(
    int* ints, Index H, Index W, Index Mh, Index Mw, Index sh, Index sw
) {
    Window w;
    w.map = {(int)H, (int)W, (int)Mh, (int)Mw, (int)sh, (int)sw};
    w.N = Mh * Mw;
    w.R = (2 * Mh - 1) * (2 * Mw - 1);
    w.places = ints;
    w.labels = ints + w.N;
    w.offsets = ints + 2 * w.N;
    w.centre = displacement_row(0, 0, Mh, Mw);
    int token = threadIdx.x;
    if (threadIdx.y == 0) {
        w.places[token] = place_on_map(w.map, blockIdx.x, token);
        w.labels[token] = region_label(w.map, blockIdx.x, token);
        w.offsets[token] = displacement_row(token / Mw, token % Mw, Mh, Mw) - w.centre;
    }
    return w;
}

// Keeps the part of each head at a multiple of 16 bytes.
__device__ inline int align(int numbers) { return (numbers + 3) / 4 * 4; }

// The head's column of the table, for the displacements that this window has: bias (R,).
template <typename T>
__device__ void load_bias(T* bias, const T* table, Window w, int Th, int Tw, int heads, int head) {
    int Mh = w.map.Mh, Mw = w.map.Mw;
    for (int r = threadIdx.x; r < w.R; r += blockDim.x) {
        int dr = r / (2 * Mw - 1) - (Mh - 1), dc = r % (2 * Mw - 1) - (Mw - 1);
        bias[r] = table[(Index)displacement_row(dr, dc, Th, Tw) * heads + head];
    }
}

// The rows of a tile of tokens, times `factor`, into shared memory; 0 beyond d and beyond N, since
// 0 · NaN would be NaN. `stride` from one place of the map to the next.
template <typename T, int D>
__device__ void load_tile(
    T* tile, const T* map, Index stride, Window w, int start, int rows, int d, T factor
) {
    bool fours = in_fours(map, d);
    for (int i = 4 * threadIdx.x; i < rows * D; i += 4 * blockDim.x) {
        int token = start + i / D, c = i % D;  // neighbours read neighbours
        const T* row = map + (token < w.N ? w.places[token] * stride : 0);
        Four<T> four = read_four(row, c, token < w.N ? d : 0, fours);
#pragma unroll
        for (int k = 0; k < 4; k++) four.at[k] *= factor;
        *(Four<T>*)(tile + i) = four;
    }
}

// Bias and mask of a query and a key.
template <typename T>
__device__ T bias_of(const T* bias, Window w, int query, int key) {
    T mask = w.labels[query] == w.labels[key] ? 0 : -100;
    return bias[w.offsets[query] - w.offsets[key] + w.centre] + mask;
}

template <typename T, int D>
__global__ void __launch_bounds__(256) window_attention_forward(
    const T* qkv, const T* table, T* y, T* stats,
    Index H, Index W, Index Mh, Index Mw, Index sh, Index sw, Index Th, Index Tw,
    Index heads, Index d, Index tile, T scale
) {
    int R = (2 * Mh - 1) * (2 * Mw - 1), size = 2 * tile * D + align(R);
    T* keys = shared_numbers<T>() + threadIdx.y * size;  // (tile, D)
    T *values = keys + tile * D, *bias = values + tile * D;
    int* ints = (int*)(shared_numbers<T>() + blockDim.y * size);
    Window w = describe_window(ints, H, W, Mh, Mw, sh, sw);
    int query = threadIdx.x, head = blockIdx.y * blockDim.y + threadIdx.y;
    load_bias(bias, table, w, Th, Tw, heads, head);
    __syncthreads();

    Index C = heads * d, image = blockIdx.z * H * W;
    const T* maps = qkv + image * 3 * C + head * d;  // q; C further on k, and v
    T q[D], sum[D], top = minus_infinity<T>(), total = 0;
    load_row<T, D>(q, maps + w.places[query] * 3 * C, d, scale);
    clear_row<T, D>(sum);
    for (int start = 0; start < w.N; start += tile) {
        load_tile<T, D>(keys, maps + C, 3 * C, w, start, tile, d, 1);
        load_tile<T, D>(values, maps + 2 * C, 3 * C, w, start, tile, d, 1);
        __syncthreads();
        for (int j = 0; j < tile && start + j < w.N; j += STEP) {
            // The maximum so far may rise: then what was added up becomes smaller by as much.
            T p[STEP], high = top;
#pragma unroll
            for (int u = 0; u < STEP; u++) {
                int key = start + j + u;
                p[u] = minus_infinity<T>();
                if (key < w.N)
                    p[u] = dot<T, D>(q, keys + (j + u) * D) + bias_of(bias, w, query, key);
                high = p[u] > high ? p[u] : high;
            }
            T shrink = exp(top - high);
            top = high;
            total *= shrink;
#pragma unroll
            for (int c = 0; c < D; c++) sum[c] *= shrink;
#pragma unroll
            for (int u = 0; u < STEP; u++) {
                p[u] = exp(p[u] - top);
                total += p[u];
                add_scaled<T, D>(sum, p[u], values + (j + u) * D);
            }
        }
        __syncthreads();  // all have read the tile
    }
    T share = 1 / total;
    store_row<T, D>(sum, y + (image + w.places[query]) * C + head * d, d, share);
    Index part = (blockIdx.z * (Index)gridDim.x + blockIdx.x) * heads + head;
    T* row = stats + (part * w.N + query) * 2;
    row[0] = top;
    row[1] = share;
}

// Add the gradients ds (rows, N) of the logits of a tile of keys to those of their displacements.
// A thread has a displacement to itself, so that the sums have a fixed order, without atomics.
template <typename T>
__device__ void add_to_bias(T* of_bias, const T* ds, Window w, int start, int rows) {
    int Mh = w.map.Mh, Mw = w.map.Mw;
    for (int r = threadIdx.x; r < w.R; r += blockDim.x) {
        int dr = r / (2 * Mw - 1) - (Mh - 1), dc = r % (2 * Mw - 1) - (Mw - 1);
        int row = start / Mw + dr, column = start % Mw + dc;  // of the query
        T sum = 0;
        for (int j = 0; j < rows && start + j < w.N; j++) {
            if (0 <= row && row < Mh && 0 <= column && column < Mw)
                sum += ds[j * w.N + row * Mw + column];
            if (++column == Mw + dc) {  // the next key begins a row
                column = dc;
                row++;
            }
        }
        of_bias[r] += sum;
    }
}

// What a query and a key say about each other: the probability p and the gradient ds of the logit.
template <typename T>
__device__ void undo_softmax(T logit, T dp, const T* numbers, T& p, T& ds) {
    p = exp(logit - numbers[0]) * numbers[1];
    ds = p * (dp - numbers[2]);
}

//   y, g the value and its cotangent   dqkv like qkv   dbias (B, windows, R, heads)
template <typename T, int D>
__global__ void __launch_bounds__(256) window_attention_backward(
    const T* qkv, const T* table, const T* y, const T* stats, const T* g, T* dqkv, T* dbias,
    Index H, Index W, Index Mh, Index Mw, Index sh, Index sw, Index Th, Index Tw,
    Index heads, Index d, Index tile, T scale
) {
    int N = Mh * Mw, R = (2 * Mh - 1) * (2 * Mw - 1);
    int size = 2 * tile * D + tile * N + align(2 * R) + align(3 * N);
    T* keys = shared_numbers<T>() + threadIdx.y * size;  // (tile, D), as queries in the second half
    T *values = keys + tile * D, *ds = values + tile * D, *bias = ds + tile * N;
    T *of_bias = bias + R, *numbers = bias + align(2 * R);  // (N, 3): maximum, share, Σ p dp
    int* ints = (int*)(shared_numbers<T>() + blockDim.y * size);
    Window w = describe_window(ints, H, W, Mh, Mw, sh, sw);
    int me = threadIdx.x, head = blockIdx.y * blockDim.y + threadIdx.y;
    load_bias(bias, table, w, Th, Tw, heads, head);
    for (int r = me; r < R; r += blockDim.x) of_bias[r] = 0;
    __syncthreads();

    Index C = heads * d, image = blockIdx.z * H * W, place = w.places[me];
    Index part = (blockIdx.z * (Index)gridDim.x + blockIdx.x) * heads + head;
    const T* maps = qkv + image * 3 * C + head * d;
    const T* dy = g + image * C + head * d;
    T* to = dqkv + (image + place) * 3 * C + head * d;

    // First half: a thread has a query, and walks over the keys. It needs dq, and the bias ds.
    {
        T q[D], gq[D], dq[D];
        load_row<T, D>(q, maps + place * 3 * C, d, scale);
        load_row<T, D>(gq, dy + place * C, d, 1);
        clear_row<T, D>(dq);
        T along = dot_with_map<T, D>(gq, y + (image + place) * C + head * d, d);  // Σ p dp, as g · y
        numbers[3 * me] = stats[(part * N + me) * 2];
        numbers[3 * me + 1] = stats[(part * N + me) * 2 + 1];
        numbers[3 * me + 2] = along;
        for (int start = 0; start < N; start += tile) {
            load_tile<T, D>(keys, maps + C, 3 * C, w, start, tile, d, 1);
            load_tile<T, D>(values, maps + 2 * C, 3 * C, w, start, tile, d, 1);
            __syncthreads();
            for (int j = 0; j < tile && start + j < N; j++) {
                T logit = dot<T, D>(q, keys + j * D) + bias_of(bias, w, me, start + j), p, slope;
                undo_softmax(logit, dot<T, D>(gq, values + j * D), numbers + 3 * me, p, slope);
                add_scaled<T, D>(dq, slope, keys + j * D);
                ds[j * N + me] = slope;
            }
            __syncthreads();
            add_to_bias(of_bias, ds, w, start, tile);
            __syncthreads();  // all have read the tile and ds
        }
        store_row<T, D>(dq, to, d, scale);
    }
    T* sums = dbias + (blockIdx.z * (Index)gridDim.x + blockIdx.x) * R * heads + head;
    for (int r = me; r < R; r += blockDim.x) sums[r * heads] = of_bias[r];  // as this thread added

    // Second half: a thread has a key, and walks over the queries. The probabilities are computed
    // once more, so that nobody adds to the rows of others.
    T k[D], v[D], dk[D], dv[D];
    load_row<T, D>(k, maps + C + place * 3 * C, d, 1);
    load_row<T, D>(v, maps + 2 * C + place * 3 * C, d, 1);
    clear_row<T, D>(dk);
    clear_row<T, D>(dv);
    T *queries = keys, *gs = values;
    for (int start = 0; start < N; start += tile) {
        load_tile<T, D>(queries, maps, 3 * C, w, start, tile, d, scale);
        load_tile<T, D>(gs, dy, C, w, start, tile, d, 1);
        __syncthreads();
        for (int i = 0; i < tile && start + i < N; i++) {
            T logit = dot<T, D>(k, queries + i * D) + bias_of(bias, w, start + i, me), p, slope;
            undo_softmax(logit, dot<T, D>(v, gs + i * D), numbers + 3 * (start + i), p, slope);
            add_scaled<T, D>(dk, slope, queries + i * D);
            add_scaled<T, D>(dv, p, gs + i * D);
        }
        __syncthreads();
    }
    store_row<T, D>(dk, to + C, d, 1);
    store_row<T, D>(dv, to + 2 * C, d, 1);
}
