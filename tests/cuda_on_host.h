// Lets a C++ compiler take the .cu files, and runs their kernels block by block on one CPU thread.
//
// The threads of a block are fibers: each runs until it waits, at __syncthreads or at a shuffle of
// its warp, and the next has its turn. What a GPU would forgive sometimes is always an error here:
// a barrier that not all threads reach, a shuffle with a thread that has ended, a write behind the
// shared memory. Shared memory starts as NaN. The order of the threads can be turned round, which
// changes the result of a kernel that forgot a barrier.

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ thread_local  // inside a function that means static, and all fibers share it
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(n) __attribute__((noinline))
#define __CUDACC__

static inline float __fmul_rn(float x, float y) { return x * y; }
static inline double __dmul_rn(double x, double y) { return x * y; }

struct Three {
    unsigned x, y, z;
};
static Three threadIdx, blockIdx, blockDim, gridDim;

enum { SHARED = 232448, CANARY = 0x5A, STACK = 1 << 16, THREADS = 1024, WARP_SIZE = 32 };
thread_local __attribute__((aligned(16))) char dynamic_memory[SHARED + 64];

namespace host {

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    ucontext_t start;
    jmp_buf here;
    State state;
    bool started;
    Three index;
    char* stack;
    char slots[2][16];  // what it gives to a shuffle: the next writes while slow ones still read
    int turn;
};

static Fiber fibers[THREADS];
static int count, current;
static jmp_buf scheduler;
static const char* trouble;
static void (*body)(void*);
static void* body_data;

static void wait(State state) {
    fibers[current].state = state;
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

// A fiber that has ended waits for the next block: to make one anew takes two calls of the system.
static void enter() {
    for (;;) {
        body(body_data);
        wait(DONE);
    }
}

static void resume(int i) {
    current = i;
    threadIdx = fibers[i].index;
    if (_setjmp(scheduler)) return;
    if (fibers[i].started) _longjmp(fibers[i].here, 1);
    fibers[i].started = true;
    setcontext(&fibers[i].start);
}

static int count_in(int from, int to, State state) {
    int n = 0;
    for (int i = from; i < to; i++) n += fibers[i].state == state;
    return n;
}

static void release(int from, int to, State state) {
    for (int i = from; i < to; i++)
        if (fibers[i].state == state) fibers[i].state = READY;
}

// Run a warp until all of its threads have ended or wait for the block.
static void run_warp(int from, int to, bool backwards) {
    while (!trouble) {
        for (int n = from; n < to; n++) {
            int i = backwards ? to - 1 - (n - from) : n;
            if (fibers[i].state == READY) resume(i);
        }
        int at_warp = count_in(from, to, AT_WARP);
        if (at_warp == 0) return;
        if (at_warp != to - from || to - from != WARP_SIZE)
            trouble = "a shuffle that not all 32 threads of the warp reach";
        release(from, to, AT_WARP);
    }
}

static void make(Fiber& f) {
    if (!f.stack) f.stack = (char*)malloc(STACK);
    getcontext(&f.start);
    f.start.uc_stack.ss_sp = f.stack;
    f.start.uc_stack.ss_size = STACK;
    f.start.uc_link = 0;
    makecontext(&f.start, enter, 0);
    f.started = false;
}

static void run_block(bool backwards) {
    for (int i = 0; i < count; i++) {
        Fiber& f = fibers[i];
        if (f.state != DONE) make(f);  // the first block, or one after trouble
        f.state = READY;
        f.turn = 0;
        f.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    while (!trouble && count_in(0, count, DONE) < count) {
        int warps = (count + WARP_SIZE - 1) / WARP_SIZE;
        for (int n = 0; n < warps; n++) {
            int from = (backwards ? warps - 1 - n : n) * WARP_SIZE;
            run_warp(from, from + WARP_SIZE < count ? from + WARP_SIZE : count, backwards);
        }
        int waiting = count_in(0, count, AT_BLOCK);
        if (waiting != 0 && waiting != count)
            trouble = "a __syncthreads that not all threads reach";
        release(0, count, AT_BLOCK);
    }
}

// One letter for each parameter of a kernel, as in Python's struct module; P is a pointer.
template <typename A>
char letter() {
    if (std::is_pointer<A>::value) return 'P';
    if (std::is_same<A, float>::value) return 'f';
    if (std::is_same<A, double>::value) return 'd';
    if (std::is_same<A, bool>::value) return '?';
    return sizeof(A) == 8 ? 'q' : sizeof(A) == 4 ? 'i' : 'x';
}

struct Call {
    void* kernel;
    void** arguments;
};

template <typename... A>
struct Caller {
    static void run(void* data) { run_with(data, std::index_sequence_for<A...>()); }

    template <size_t... I>
    static void run_with(void* data, std::index_sequence<I...>) {
        Call* call = (Call*)data;
        ((void (*)(A...))call->kernel)(*(A*)call->arguments[I]...);
    }

    static const char* letters() {
        static const char all[] = {letter<A>()..., 0};
        return all;
    }

    static const int* sizes() {
        static const int all[] = {(int)sizeof(A)..., 0};
        return all;
    }
};

struct Entry {
    const char* name;
    void* kernel;
    void (*run)(void*);
    const char* letters;
    const int* sizes;  // bytes of each parameter
};

template <typename... A>
Entry entry(const char* name, void (*kernel)(A...)) {
    return {name, (void*)kernel, Caller<A...>::run, Caller<A...>::letters(), Caller<A...>::sizes()};
}

}  // namespace host

static inline void __syncthreads() { host::wait(host::AT_BLOCK); }

static inline void __syncwarp(unsigned mask = 0xffffffffu) { host::wait(host::AT_WARP); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int lanes) {
    using namespace host;
    if (mask != 0xffffffffu) trouble = "a shuffle of a part of a warp";
    int turn = fibers[current].turn++ % 2, other = current ^ lanes;
    memcpy(fibers[current].slots[turn], &x, sizeof(T));
    wait(AT_WARP);
    memcpy(&x, fibers[other].slots[turn], sizeof(T));
    return x;
}

extern host::Entry entries[];  // in the generated end of the file, and a last one without a name

extern "C" const char* letters_of(const char* name) {
    for (host::Entry* e = entries; e->name; e++)
        if (!strcmp(e->name, name)) return e->letters;
    return 0;
}

extern "C" const int* sizes_of(const char* name) {
    for (host::Entry* e = entries; e->name; e++)
        if (!strcmp(e->name, name)) return e->sizes;
    return 0;
}

// Gives null, or what went wrong.
extern "C" const char* launch(
    const char* name, const unsigned* grid, const unsigned* block, int shared, void** arguments,
    int backwards
) {
    using namespace host;
    Entry* e = entries;
    while (e->name && strcmp(e->name, name)) e++;
    if (!e->name) return "there is no such kernel";
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    count = block[0] * block[1] * block[2];
    if (count < 1 || count > THREADS) return "too many threads";
    if (grid[1] > 65535 || grid[2] > 65535) return "too many blocks";
    if (shared > SHARED) return "too much shared memory";
    Call call = {e->kernel, arguments};
    body = e->run;
    body_data = &call;
    trouble = 0;
    unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned n = 0; n < blocks && !trouble; n++) {
        unsigned b = backwards ? blocks - 1 - n : n;
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        memset(dynamic_memory, 0xFF, shared);
        memset(dynamic_memory + shared, CANARY, 64);
        run_block(backwards);
        for (int i = 0; i < 64; i++)
            if (dynamic_memory[shared + i] != CANARY) trouble = "a write behind the shared memory";
    }
    return trouble;
}
