// Where the tokens of a shifted window lie, and what they have in common, as plain C.
//
// The kernels of attention need no rolled and no partitioned map: these four functions are the
// roll, the partition and their inverses. A C compiler takes this file too, so that a test can
// compare each of them with its definition in reference/windows.py.

#ifndef WINDOW_INDEX_H
#define WINDOW_INDEX_H

#ifdef __CUDACC__
#define WINDOW_INDEX static __device__ __forceinline__
#else
#define WINDOW_INDEX static inline
#endif

// A map of H×W tokens, rolled up by sh and left by sw, cut into windows of Mh×Mw tokens.
typedef struct {
    int H, W, Mh, Mw, sh, sw;
} Windows;

// Row of the bias table for a query that lies dr rows below and dc columns right of its key.
// Mh, Mw: the window that the table was made for.
WINDOW_INDEX int displacement_row(int dr, int dc, int Mh, int Mw) {
    return (dr + Mh - 1) * (2 * Mw - 1) + (dc + Mw - 1);
}

// Row of the ROLLED map in which a token of a window lies, and its column.
WINDOW_INDEX int rolled_row(Windows m, int window, int token) {
    return window / (m.W / m.Mw) * m.Mh + token / m.Mw;
}

WINDOW_INDEX int rolled_column(Windows m, int window, int token) {
    return window % (m.W / m.Mw) * m.Mw + token % m.Mw;
}

// Place of a token on the map as it was before the roll: row · W + column.
WINDOW_INDEX int place_on_map(Windows m, int window, int token) {
    int row = rolled_row(m, window, token) + m.sh;
    int column = rolled_column(m, window, token) + m.sw;
    if (row >= m.H) row -= m.H;  // 0 ≤ shift < window ≤ map: once round at most
    if (column >= m.W) column -= m.W;
    return row * m.W + column;
}

// Along one axis: 0 up to the last window, 1 the part of it that was there before the roll, 2 the
// part that the roll brought from the other end.
WINDOW_INDEX int axis_region(int at, int size, int side, int shift) {
    if (shift == 0 || at < size - side) return 0;
    return at < size - shift ? 1 : 2;
}

// Piece of the image that a token comes from, 0…8. Tokens of two pieces do not see each other.
WINDOW_INDEX int region_label(Windows m, int window, int token) {
    int rows = axis_region(rolled_row(m, window, token), m.H, m.Mh, m.sh);
    return rows * 3 + axis_region(rolled_column(m, window, token), m.W, m.Mw, m.sw);
}

#endif
