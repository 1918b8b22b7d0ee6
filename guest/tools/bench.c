// bench [SCALE [NAMES]]: ten small programs, each a different load for a software CPU.
//
//   BENCH name      1.2345 s  instret=N
//   BENCH done CHECKSUM
//
// Seconds are CLOCK_MONOTONIC of the guest. SCALE multiplies the work (default 1: 0.1 to 1.6 billion instructions
// each). NAMES, when given, is searched for the names to run. With RDI in the environment the `instret` CSR is read
// around each; a guest kernel may have frozen it, so it is off by default.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))

enum { MIB = 1 << 20, MATRIX = 64, NODES = 65536, SORTED = 500000, TEXT = 512, SMALL = 32 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t instret(void)
{
    uint64_t n = 0;
#ifdef __riscv
    if (getenv("RDI"))
        __asm__ volatile("rdinstret %0" : "=r"(n));
#endif
    return n;
}

// Marsaglia's xorshift64: the source of everything random here.
static uint64_t xorshift(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

// Shifts, xors and adds in one long chain.
static NOINLINE uint64_t alu(long rounds)
{
    uint64_t state = 88172645463325252u, sum = 0;
    for (long i = 0; i < rounds; i++)
        sum += xorshift(&state);
    return sum;
}

// 64-bit multiplication, division and remainder.
static NOINLINE uint64_t muldiv(long rounds)
{
    uint64_t a = 12345678901u, r = 0;
    for (long i = 1; i <= rounds; i++) {
        a = a * 6364136223846793005u + 1442695040888963407u;
        r += a / ((a >> 40) | 1);
        r ^= a % (uint64_t)(i | 1);
    }
    return r;
}

static uint8_t bytes[MIB];

// Byte stores with growing strides over one MiB.
static NOINLINE uint64_t sieve(long rounds)
{
    uint64_t primes = 0;
    while (rounds-- > 0) {
        memset(bytes, 1, sizeof bytes);
        for (long i = 2; i < MIB; i++) {
            if (!bytes[i])
                continue;
            primes++;
            for (long j = 2 * i; j < MIB; j += i)
                bytes[j] = 0;
        }
    }
    return primes;
}

// Calls and returns.
static NOINLINE uint64_t fib(int n) { return n < 2 ? (uint64_t)n : fib(n - 1) + fib(n - 2); }

// Byte loads and dependent table look-ups.
static NOINLINE uint64_t crc(long rounds)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    uint32_t c = ~0u;
    while (rounds-- > 0)
        for (long i = 0; i < MIB; i++)
            c = table[(c ^ bytes[i]) & 255] ^ (c >> 8);
    return c;
}

// Double-precision matrix product, with the rounding of every step kept.
static NOINLINE uint64_t matfp(long rounds)
{
    static double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];
    for (int i = 0; i < MATRIX * MATRIX; i++) {
        a[i / MATRIX][i % MATRIX] = i * 0.5;
        b[i / MATRIX][i % MATRIX] = 1.0 / (i + 1);
    }
    while (rounds-- > 0)
        for (int i = 0; i < MATRIX; i++)
            for (int j = 0; j < MATRIX; j++) {
                double sum = 0;
                for (int k = 0; k < MATRIX; k++)
                    sum += a[i][k] * b[k][j];
                c[i][j] = sum + c[i][j] * 0.5;
            }
    return (uint64_t)c[1][13];
}

struct node {
    struct node *next;
    uint64_t value[7];
};

// A ring of cache lines over 4 MiB in random order, followed step by step.
static NOINLINE uint64_t chase(const struct node *at, long steps)
{
    uint64_t sum = 0;
    for (; steps; steps--) {
        sum += at->value[0];
        at = at->next;
    }
    return sum;
}

static struct node *ring(uint64_t *state)
{
    struct node *nodes = malloc(NODES * sizeof *nodes);
    uint32_t *order = malloc(NODES * sizeof *order);
    if (!nodes || !order)
        abort();
    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(xorshift(state) % (i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].value[0] = i;
    }
    free(order);
    return nodes;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

// The C library's sort: calls through a pointer, unpredictable branches, copies.
static NOINLINE uint64_t sort(uint32_t *values, long n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static uint64_t add_one(uint64_t x) { return x + 1; }
static uint64_t xor_three(uint64_t x) { return x ^ 3; }
static uint64_t times_five(uint64_t x) { return x * 5; }
static uint64_t half(uint64_t x) { return x >> 1; }

// Indirect calls with a target that nobody can predict.
static NOINLINE uint64_t indcall(long rounds)
{
    uint64_t (*volatile targets[4])(uint64_t) = {add_one, xor_three, times_five, half};
    uint64_t state = 99, a = 7;
    for (long i = 0; i < rounds; i++)
        a = targets[xorshift(&state) & 3](a);
    return a;
}

static int digit(char c) { return c >= '0' && c <= '9'; }

// One step of a reader of comma-separated numbers; the states are start, integer, sign, fraction, other.
static int scan(int state, char c)
{
    switch (state) {
    case 0: return digit(c) ? 1 : c == '+' ? 2 : c == '.' ? 3 : 4;
    case 1: return c == '.' ? 3 : c == 'e' ? 2 : c == ',' ? 0 : 1;
    case 2: return digit(c) ? 1 : 4;
    case 3: return digit(c) ? 3 : c == 'e' ? 2 : 0;
    default: return c == ',' ? 0 : 4;
    }
}

// What a control program does: a small integer matrix, a state machine over text, a bitwise checksum.
static NOINLINE uint64_t mix(long rounds)
{
    static int16_t m[SMALL * SMALL];
    static char text[TEXT];
    uint64_t state = 42, sum = 0;
    for (int i = 0; i < TEXT - 1; i++)
        text[i] = "0123+-.e,xyz"[xorshift(&state) % 12];
    for (int i = 0; i < SMALL * SMALL; i++)
        m[i] = (int16_t)xorshift(&state);
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < SMALL; i++)
            for (int j = 0; j < SMALL; j++) {
                int32_t q = 0;
                for (int k = 0; k < SMALL; k++)
                    q += m[i * SMALL + k] * m[k * SMALL + j];
                sum += (uint64_t)(int64_t)q;
            }
        int at = 0, seen[5] = {0};
        for (int i = 0; text[i]; i++) {
            at = scan(at, text[i]);
            sum += (uint64_t)++seen[at];
        }
        uint16_t check = (uint16_t)sum;
        for (int bit = 0; bit < 64; bit++) {
            int out = (check & 1) ^ (int)((sum >> (bit & 56)) & 1);
            check >>= 1;
            if (out)
                check ^= 0xa001;
        }
        sum += check;
        m[round % (SMALL * SMALL)] = (int16_t)(m[round % (SMALL * SMALL)] + check);
    }
    return sum;
}

static const char *only;
static uint64_t checksum;

static int wanted(const char *name) { return !only || strstr(only, name); }

static void report(const char *name, double seconds, uint64_t retired, uint64_t result)
{
    checksum += result;
    printf("BENCH %-8s %8.4f s  instret=%llu\n", name, seconds, (unsigned long long)retired);
    fflush(stdout);
}

#define RUN(name, call)                                                                                                \
    do {                                                                                                               \
        if (wanted(name)) {                                                                                            \
            uint64_t before = instret();                                                                               \
            double start = now();                                                                                      \
            uint64_t result = (call);                                                                                  \
            double taken = now() - start;                                                                              \
            report(name, taken, instret() - before, result);                                                           \
        }                                                                                                              \
    } while (0)

int main(int argc, char **argv)
{
    double scale = argc > 1 ? atof(argv[1]) : 1;
    only = argc > 2 ? argv[2] : 0;
    uint64_t state = 7;

    RUN("alu", alu((long)(100e6 * scale)));
    RUN("muldiv", muldiv((long)(20e6 * scale)));
    RUN("sieve", sieve((long)(20 * scale)));
    RUN("fib", fib(scale >= 1 ? 34 : 30));
    RUN("crc", crc((long)(50 * scale)));
    RUN("matfp", matfp((long)(200 * scale)));
    struct node *nodes = ring(&state);
    RUN("chase4M", chase(nodes, (long)(20e6 * scale)));
    long n = (long)(SORTED * scale) + 1;
    uint32_t *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return 1;
    for (long i = 0; i < n; i++)
        values[i] = (uint32_t)xorshift(&state);
    RUN("qsort", sort(values, n));
    RUN("indcall", indcall((long)(50e6 * scale)));
    RUN("mix", mix((long)(1500 * scale)));
    printf("BENCH done %llu\n", (unsigned long long)checksum);
    return 0;
}
