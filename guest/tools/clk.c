// clk [LABEL]: prints every clock a Linux guest has, on one line.
//
//   CLK label mono=S boot=S raw=S real=S rdtime=TICKS
//
// Seconds with six decimals; rdtime is the `time` CSR as it stands (0 where there is none).
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t time_csr(void)
{
    uint64_t ticks = 0;
#ifdef __riscv
    __asm__ volatile("rdtime %0" : "=r"(ticks));
#endif
    return ticks;
}

int main(int argc, char **argv)
{
    uint64_t ticks = time_csr();
    printf("CLK %s mono=%.6f boot=%.6f raw=%.6f real=%.6f rdtime=%llu\n", argc > 1 ? argv[1] : "-",
           seconds(CLOCK_MONOTONIC), seconds(CLOCK_BOOTTIME), seconds(CLOCK_MONOTONIC_RAW),
           seconds(CLOCK_REALTIME), (unsigned long long)ticks);
    return 0;
}
