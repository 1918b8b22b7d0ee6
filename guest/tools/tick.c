// tick: counts a 4 ms timer while it keeps its hart busy, until a line (or the end) arrives on standard input.
//
//   TICK start
//   TICK mono=S expected=N counted=N back=N gap_us=N
//
// `counted` is what the timer delivered, `expected` what CLOCK_MONOTONIC says it should have been, `back` how often the
// clock was seen to go back, and `gap_us` the largest step between two readings of it.
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_NS = 4000000 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t take(int timer)
{
    uint64_t n = 0;
    return read(timer, &n, sizeof n) == sizeof n ? n : 0;
}

int main(void)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    uint64_t start = now_ns() + PERIOD_NS, last = now_ns(), counted = 0, back = 0, gap = 0;
    struct itimerspec spec = {.it_interval = {0, PERIOD_NS},
                              .it_value = {(time_t)(start / 1000000000u), (long)(start % 1000000000u)}};
    if (timer < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, 0)) {
        perror("timerfd");
        return 1;
    }
    printf("TICK start\n");
    fflush(stdout);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (unsigned round = 1;; round++) {
        uint64_t t = now_ns();
        if (t < last)
            back++;
        else if (t - last > gap)
            gap = t - last;
        last = t;
        counted += take(timer);
        if (round % 256 == 0 && poll(&input, 1, 0) > 0)
            break;
    }
    // Looks half a period after a tick, and again a period later for a while: the host may keep the hart, or the thread that
    // raises its timer, from running just then. A tick that is lost or told twice stays so.
    uint64_t expected = 0;
    for (int tries = 0; tries < 250; tries++) {
        expected = (now_ns() - start) / PERIOD_NS + 2;
        uint64_t until = start + (expected - 1) * PERIOD_NS + PERIOD_NS / 2;
        while (now_ns() < until)
            ;
        counted += take(timer);
        if (counted == expected && now_ns() < until + PERIOD_NS / 2)
            break;
    }
    printf("TICK mono=%.6f expected=%llu counted=%llu back=%llu gap_us=%llu\n", (double)(last - start) / 1e9,
           (unsigned long long)expected, (unsigned long long)counted, (unsigned long long)back,
           (unsigned long long)(gap / 1000));
    return 0;
}
