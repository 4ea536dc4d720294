/* Attention in shifted windows in plain C, checked by `minswin conform`.

       minswin conform --write probes --form raw --only window_attention/
       cc -O2 -o swin_block examples/conformance/swin_block.c -lm
       for case in $(ls probes/probes/window_attention); do
           mkdir -p answers/window_attention/$case
           ./swin_block probes/probes/window_attention/$case answers/window_attention/$case/y.f64
       done
       minswin conform --files answers --only window_attention/

   A probe's folder holds shapes.txt, with lines "name kind rank numbers", and an .f32 per array. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;

static void stop(const char *why, const char *what) {
    fprintf(stderr, "swin_block: %s %s\n", why, what);
    exit(2);
}

/* The numbers of a line of shapes.txt: the shape of an array, or the values of a setting. */
static int numbers(const char *name, double out[8]) {
    char path[4096], word[256], kind[32];
    int count, found = 0;
    snprintf(path, sizeof path, "%s/shapes.txt", folder);
    FILE *file = fopen(path, "r");
    if (!file) stop("cannot open", path);
    while (!found && fscanf(file, "%255s %31s %d", word, kind, &count) == 3) {
        if (count > 8) stop("too many numbers for", word);
        for (int i = 0; i < count; i++)
            if (fscanf(file, "%lf", &out[i]) != 1) stop("cannot read", path);
        found = strcmp(word, name) == 0;
    }
    fclose(file);
    if (!found) stop("there is no", name);
    return count;
}

static double *array(const char *name) {
    double shape[8];
    size_t size = 1;
    char path[4096];
    int rank = numbers(name, shape);
    for (int i = 0; i < rank; i++) size *= (size_t)shape[i];
    snprintf(path, sizeof path, "%s/%s.f32", folder, name);
    FILE *file = fopen(path, "rb");
    float *narrow = malloc(size * sizeof *narrow);
    double *wide = malloc(size * sizeof *wide);
    if (!file || !narrow || !wide || fread(narrow, sizeof *narrow, size, file) != size)
        stop("cannot read", path);
    for (size_t i = 0; i < size; i++) wide[i] = narrow[i];
    free(narrow);
    fclose(file);
    return wide;
}

/* y = W x + b, W (outputs, inputs) */
static void linear(const double *x, const double *W, const double *b, int in, int out, double *y) {
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += W[o * in + i] * x[i];
    }
}

/* Which piece of the image a row or column of the ROLLED map comes from: 0, 1 or 2. */
static int region(int at, int size, int window, int shift) {
    return shift == 0 || at < size - window ? 0 : at < size - shift ? 1 : 2;
}

int main(int argc, char **argv) {
    double s[8], window[8], shift[8], h[8];
    if (argc != 3) stop("usage: swin_block", "PROBE_FOLDER ANSWER_FILE");
    folder = argv[1];
    numbers("x", s), numbers("window", window), numbers("shift", shift), numbers("heads", h);
    int B = (int)s[0], H = (int)s[1], W = (int)s[2], C = (int)s[3], heads = (int)h[0];
    int Mh = (int)window[0], Mw = (int)window[1], sh = (int)shift[0], sw = (int)shift[1];
    int N = Mh * Mw, d = C / heads, P = (H + Mh - 1) / Mh * Mh, Q = (W + Mw - 1) / Mw * Mw;
    double *x = array("x"), *table = array("relative_position_bias_table");
    double *Wqkv = array("qkv.weight"), *bqkv = array("qkv.bias");
    double *Wo = array("proj.weight"), *bo = array("proj.bias");
    double *zero = calloc((size_t)C, sizeof *zero), *y = calloc((size_t)B * H * W * C, sizeof *y);
    double *qkv = malloc(sizeof *qkv * (size_t)N * 3 * C), *p = malloc(sizeof *p * (size_t)N);
    double *mixed = malloc(sizeof *mixed * (size_t)C);

    for (int b = 0; b < B; b++)
        for (int top = 0; top < P; top += Mh)       /* a window of the padded, rolled map */
            for (int left = 0; left < Q; left += Mw) {
                for (int t = 0; t < N; t++) {       /* where its token stood before the roll */
                    int r = (top + t / Mw + sh) % P, c = (left + t % Mw + sw) % Q;
                    const double *token = r < H && c < W ? x + ((b * H + r) * W + c) * C : zero;
                    linear(token, Wqkv, bqkv, C, 3 * C, qkv + t * 3 * C);
                }
                for (int i = 0; i < N; i++) {
                    int r = top + i / Mw, c = left + i % Mw;
                    int back_r = (r + sh) % P, back_c = (c + sw) % Q;
                    memset(mixed, 0, sizeof *mixed * (size_t)C);
                    for (int k = 0; k < heads; k++) {
                        double most = -INFINITY, sum = 0;
                        for (int j = 0; j < N; j++) {
                            int rj = top + j / Mw, cj = left + j % Mw, apart;
                            int row = (r - rj + Mh - 1) * (2 * Mw - 1) + c - cj + Mw - 1;
                            apart = region(r, P, Mh, sh) != region(rj, P, Mh, sh) ||
                                    region(c, Q, Mw, sw) != region(cj, Q, Mw, sw);
                            p[j] = 0;
                            for (int e = 0; e < d; e++)
                                p[j] += qkv[i * 3 * C + k * d + e] * qkv[j * 3 * C + C + k * d + e];
                            p[j] = p[j] / sqrt(d) + table[row * heads + k] - (apart ? 100 : 0);
                            most = fmax(most, p[j]);
                        }
                        for (int j = 0; j < N; j++) sum += p[j] = exp(p[j] - most);
                        for (int j = 0; j < N; j++)
                            for (int e = 0; e < d; e++)
                                mixed[k * d + e] += p[j] / sum * qkv[j * 3 * C + 2 * C + k * d + e];
                    }
                    if (back_r < H && back_c < W)
                        linear(mixed, Wo, bo, C, C, y + ((b * H + back_r) * W + back_c) * C);
                }
            }
    FILE *out = fopen(argv[2], "wb");
    size_t size = (size_t)B * H * W * C;
    if (!out || fwrite(y, sizeof *y, size, out) != size || fclose(out)) stop("cannot write", argv[2]);
    return 0;
}
