// The functions of cuBLAS that CuPy and minswin use; those of CuPy that are not here are added as
// errors. A product is described in a struct and computed in Python.

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 15, DOUBLE = 70, DOUBLE_PEDANTIC = 71 };
enum { FLOAT_TYPE = 0, DOUBLE_TYPE = 1, FLOAT = 68 };

typedef long long Long;
typedef struct {
    int turned_a, turned_b, m, n, k, batch;
    int type_a, type_b, type_c, lda, ldb, ldc;
    int compute;
    Long a, b, c, step_a, step_b, step_c;
    Long stream, bias;
    double alpha, beta;
} Product;

static int (*multiply)(Product*);
static Long stream;

void set_multiply(int (*function)(Product*)) { multiply = function; }

int cublasCreate_v2(void** handle) { *handle = (void*)1; return SUCCESS; }
int cublasDestroy_v2(void* handle) { return SUCCESS; }
int cublasSetStream_v2(void* handle, void* to) { stream = (Long)to; return SUCCESS; }
int cublasGetStream_v2(void* handle, void** to) { *to = (void*)stream; return SUCCESS; }
int cublasSetWorkspace_v2(void* handle, void* memory, size_t bytes) { return SUCCESS; }
int cublasGetVersion_v2(void* handle, int* version) { *version = 130000; return SUCCESS; }
int cublasSetMathMode(void* handle, int mode) { return SUCCESS; }
int cublasGetMathMode(void* handle, int* mode) { *mode = 0; return SUCCESS; }
int cublasSetPointerMode_v2(void* handle, int mode) { return SUCCESS; }
int cublasGetPointerMode_v2(void* handle, int* mode) { *mode = 0; return SUCCESS; }

static double number(const void* x, int compute) {
    return compute == DOUBLE || compute == DOUBLE_PEDANTIC ? *(double*)x : *(float*)x;
}

int cublasGemmStridedBatchedEx(
    void* handle, int ta, int tb, int m, int n, int k, void* alpha,
    Long a, int type_a, int lda, Long step_a, Long b, int type_b, int ldb, Long step_b, void* beta,
    Long c, int type_c, int ldc, Long step_c, int batch, int compute, int algorithm
) {
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;  // INVALID_VALUE
    Product p = {ta, tb, m, n, k, batch, type_a, type_b, type_c, lda, ldb, ldc, compute,
                 a, b, c, step_a, step_b, step_c, stream, 0,
                 number(alpha, compute), number(beta, compute)};
    return multiply(&p);
}

int cublasGemmEx(
    void* handle, int ta, int tb, int m, int n, int k, void* alpha, Long a, int type_a, int lda,
    Long b, int type_b, int ldb, void* beta, Long c, int type_c, int ldc, int compute, int algorithm
) {
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, 0,
                                      b, type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute, 0);
}

int cublasSgemmBatched(
    void* handle, int ta, int tb, int m, int n, int k, void* alpha, Long* a, int lda, Long* b,
    int ldb, void* beta, Long* c, int ldc, int batch
) {
    int status = SUCCESS;
    for (int i = 0; i < batch && status == SUCCESS; i++)
        status = cublasGemmEx(handle, ta, tb, m, n, k, alpha, a[i], FLOAT_TYPE, lda,
                              b[i], FLOAT_TYPE, ldb, beta, c[i], FLOAT_TYPE, ldc, FLOAT, 0);
    return status;
}

int cublasDgemmBatched(
    void* handle, int ta, int tb, int m, int n, int k, void* alpha, Long* a, int lda, Long* b,
    int ldb, void* beta, Long* c, int ldc, int batch
) {
    int status = SUCCESS;
    for (int i = 0; i < batch && status == SUCCESS; i++)
        status = cublasGemmEx(handle, ta, tb, m, n, k, alpha, a[i], DOUBLE_TYPE, lda,
                              b[i], DOUBLE_TYPE, ldb, beta, c[i], DOUBLE_TYPE, ldc, DOUBLE, 0);
    return status;
}

// ── cublasLt: descriptions of a product, the choice of an algorithm, the product with a bias ──────

enum { TURNED_A = 3, TURNED_B = 4, EPILOGUE = 7, BIAS_POINTER = 8, ADDS_BIAS = 4, INVALID = 7 };
enum { MOST_WORKSPACE = 1, TF32 = 77, ALIGNED = 256, NEEDED = 1 << 20, MAGIC = 0xA160 };

typedef struct { int compute, turned_a, turned_b, epilogue; Long bias; } Operation;
typedef struct { int type; Long rows, columns, leading; } Layout;
typedef struct { unsigned long long algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Found;

int cublasLtMatmulDescCreate(Operation** made, int compute, int scale) {
    if (scale != FLOAT_TYPE || (compute != FLOAT && compute != TF32)) return INVALID;
    *made = calloc(1, sizeof(Operation));
    (*made)->compute = compute;
    return SUCCESS;
}

int cublasLtMatmulDescSetAttribute(Operation* of, int which, const void* from, size_t bytes) {
    int* places[] = {&of->turned_a, &of->turned_b};
    if (which == BIAS_POINTER && bytes == sizeof(Long)) memcpy(&of->bias, from, bytes);
    else if (which == EPILOGUE && bytes == sizeof(int)) memcpy(&of->epilogue, from, bytes);
    else if ((which == TURNED_A || which == TURNED_B) && bytes == sizeof(int))
        memcpy(places[which - TURNED_A], from, bytes);
    else return INVALID;
    return SUCCESS;
}

int cublasLtMatrixLayoutCreate(Layout** made, int type, Long rows, Long columns, Long leading) {
    if (rows < 1 || columns < 1 || leading < rows) return INVALID;
    *made = malloc(sizeof(Layout));
    **made = (Layout){type, rows, columns, leading};
    return SUCCESS;
}

int cublasLtMatmulPreferenceCreate(Long** made) { *made = calloc(1, sizeof(Long)); return SUCCESS; }
int cublasLtMatmulPreferenceDestroy(Long* made) { free(made); return SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(Long* of, int which, const void* from, size_t bytes) {
    if (which != MOST_WORKSPACE || bytes != sizeof(Long)) return INVALID;
    memcpy(of, from, bytes);
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(
    void* handle, Operation* of, Layout* a, Layout* b, Layout* c, Layout* d, Long* workspace,
    int most, Found* found, int* count
) {
    Long k = of->turned_a ? a->rows : a->columns, m = of->turned_a ? a->columns : a->rows;
    Long n = of->turned_b ? b->rows : b->columns;
    *count = 0;
    if ((of->turned_b ? b->columns : b->rows) != k || c->rows != m || c->columns != n || c != d)
        return INVALID;
    if (of->epilogue != ADDS_BIAS || !of->bias || a->type != b->type || c->type != FLOAT_TYPE)
        return NOT_SUPPORTED;
    if (*workspace < NEEDED || most < 1) return NOT_SUPPORTED;
    *found = (Found){{MAGIC}, NEEDED, SUCCESS, 1};
    *count = 1;
    return SUCCESS;
}

int cublasLtMatmul(
    void* handle, Operation* of, void* alpha, Long a, Layout* A, Long b, Layout* B, void* beta,
    Long c, Layout* C, Long d, Layout* D, unsigned long long* algorithm, Long workspace,
    size_t bytes, Long on
) {
    if (*algorithm != MAGIC || bytes < NEEDED || !workspace || c != d) return INVALID;
    if ((a | b | d | of->bias) % ALIGNED) return INVALID;
    int k = of->turned_a ? A->rows : A->columns;
    Product p = {of->turned_a, of->turned_b, D->rows, D->columns, k, 1, A->type, B->type, D->type,
                 A->leading, B->leading, D->leading, of->compute, a, b, d, 0, 0, 0, on, of->bias,
                 *(float*)alpha, *(float*)beta};
    return multiply(&p);
}
