// The functions of cuBLAS that CuPy and minswin use; those of CuPy that are not here are added as
// errors. A product is described in a struct and computed in Python.

#include <stddef.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 15, DOUBLE = 70, DOUBLE_PEDANTIC = 71 };
enum { FLOAT_TYPE = 0, DOUBLE_TYPE = 1, FLOAT = 68 };

typedef long long Long;
typedef struct {
    int turned_a, turned_b, m, n, k, batch;
    int type_a, type_b, type_c, lda, ldb, ldc;
    int compute;
    Long a, b, c, step_a, step_b, step_c;
    Long stream;
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
                 a, b, c, step_a, step_b, step_c, stream,
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
