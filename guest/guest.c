/*
 * The embedded guest: what dormouse runs when it is given no kernel.
 *
 * A prompt on the serial console with which the life of the machine can be seen from inside: clocks, suspend to RAM
 * with an alarm, reset, power off. It runs in S-mode on SBI and knows the memory map of the `virt` machine.
 *
 * Rules it keeps:
 *  - Waiting costs nothing: it waits in wfi for the UART's receive interrupt, which it takes by polling the PLIC with
 *    interrupts left disabled in sstatus. No interrupt handler exists.
 *  - No typed character is lost. The UART's FIFO is never switched on, because switching it on empties it; the VMM
 *    pushes a byte only when there is room. What was typed ahead of a `reset` is kept in memory that is not cleared.
 *  - While it sleeps the UART is masked at the PLIC: only the alarm or the management may wake it.
 */
#include "guest.h"

/* ---- machine: memory map of `virt` ---- */
#define TEST 0x00100000UL /* test finisher */
#define RTC 0x00101000UL  /* goldfish RTC */
#define D1_RTC 0x00102000UL /* the other RTC, of the Allwinner D1, there unless wakeup-rtc=off */
#define PVPANIC 0x00104000UL
#define WATCHDOG 0x00105000UL /* of the Allwinner A10 */
#define PLIC 0x0c000000UL /* SiFive PLIC; contexts are M and S of hart 0, M and S of hart 1, ... */
#define UART 0x10000000UL /* 16550, registers one byte apart */
#define TIMEBASE_HZ 10000000UL

enum { IRQ_UART = 10, IRQ_RTC = 11, IRQ_D1_RTC = 12 };
enum { UART_DATA = 0, UART_IER = 1, UART_MCR = 4, UART_LSR = 5,
       IER_RX = 1, MCR_LOOP = 0x10, LSR_DR = 0x01, LSR_THRE = 0x20 };
enum { RTC_TIME_LOW = 0x00, RTC_TIME_HIGH = 0x04, RTC_ALARM_LOW = 0x08, RTC_ALARM_HIGH = 0x0c,
       RTC_IRQ_ENABLED = 0x10, RTC_CLEAR_ALARM = 0x14, RTC_CLEAR_INTERRUPT = 0x1c };
enum { D1_DAY = 0x10, D1_TIME = 0x14, D1_ALARM_DAY = 0x20, D1_ALARM_TIME = 0x24, D1_ALARM_ENABLE = 0x28,
       D1_IRQ_ENABLE = 0x2c, D1_ALARM_STATUS = 0x30 };

static volatile u32 *reg32(u64 a) { return (volatile u32 *)a; }
static volatile u8 *reg8(u64 a) { return (volatile u8 *)a; }

static u64 boot_hart;
static u64 plic_context(void) { return 2 * boot_hart + 1; }
static volatile u32 *plic_claim(void) { return reg32(PLIC + 0x200004 + 0x1000 * plic_context()); }

static void plic_enable(u32 sources)
{
    *reg32(PLIC + 0x2000 + 0x80 * plic_context()) = sources;
}

/* ---- SBI ---- */
enum { EXT_BASE = 0x10, EXT_HSM = 0x48534d, EXT_SRST = 0x53525354, EXT_SUSP = 0x53555350 };
enum { SRST_SHUTDOWN = 0, SRST_COLD_REBOOT = 1 };

struct sbiret { long error, value; };

static struct sbiret sbi(u64 ext, u64 fid, u64 x0, u64 x1, u64 x2)
{
    register u64 a0 asm("a0") = x0, a1 asm("a1") = x1, a2 asm("a2") = x2;
    register u64 a6 asm("a6") = fid, a7 asm("a7") = ext;
    asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
    return (struct sbiret){(long)a0, (long)a1};
}

static int sbi_has(u64 ext) { return sbi(EXT_BASE, 3, ext, 0, 0).value != 0; }

/* ---- console ---- */

/* Characters read from the UART and not yet used. Survives a reset when `seal` matches its content. */
struct typed { u32 head, tail; u64 seal; u8 buf[4096]; };
static struct typed typed __attribute__((section(".noinit")));

static u64 typed_seal(void)
{
    u64 h = 0x646f726d6f757365UL ^ typed.head ^ ((u64)typed.tail << 32);
    for (u32 i = typed.tail; i != typed.head; i++)
        h = (h ^ typed.buf[i % sizeof typed.buf]) * 0x100000001b3UL;
    return h;
}

static int typed_drain(void)
{
    int any = 0;
    while (typed.head - typed.tail < sizeof typed.buf && (*reg8(UART + UART_LSR) & LSR_DR)) {
        typed.buf[typed.head++ % sizeof typed.buf] = *reg8(UART + UART_DATA);
        any = 1;
    }
    return any;
}

void putch(char c)
{
    while (!(*reg8(UART + UART_LSR) & LSR_THRE))
        ;
    *reg8(UART + UART_DATA) = (u8)c;
}

void puts(const char *s)
{
    for (; *s; s++) {
        if (*s == '\n')
            putch('\r');
        putch(*s);
    }
}

/* Decimal, with at least `width` digits. */
void putdec(u64 v, int width)
{
    char b[24];
    int n = 0;
    do
        b[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n < width)
        b[n++] = '0';
    while (n)
        putch(b[--n]);
}

static void puthex(u64 v)
{
    puts("0x");
    for (int i = 60; i >= 0; i -= 4)
        putch("0123456789abcdef"[(v >> i) & 15]);
}

/* Seconds with six decimals. */
void putsec(u64 ns)
{
    putdec(ns / NS, 1);
    putch('.');
    putdec(ns % NS / 1000, 6);
    puts(" s");
}

static int getch(void)
{
    for (;;) {
        typed_drain();
        if (typed.head != typed.tail)
            return typed.buf[typed.tail++ % sizeof typed.buf];
        asm volatile("wfi" ::: "memory");
        u32 irq = *plic_claim();
        if (irq) {
            typed_drain();
            *plic_claim() = irq;
        }
    }
}

int typed_any(void)
{
    typed_drain();
    return typed.head != typed.tail;
}

/* ---- clocks ---- */
u64 monotonic_ns(void)
{
    u64 t;
    asm volatile("rdtime %0" : "=r"(t));
    return t * (NS / TIMEBASE_HZ);
}

u64 rtc_ns(void)
{
    u64 low = *reg32(RTC + RTC_TIME_LOW); /* latches the high word */
    return (u64)*reg32(RTC + RTC_TIME_HIGH) << 32 | low;
}

static void rtc_arm(u64 ns)
{
    *reg32(RTC + RTC_IRQ_ENABLED) = 1;
    *reg32(RTC + RTC_ALARM_HIGH) = (u32)(ns >> 32);
    *reg32(RTC + RTC_ALARM_LOW) = (u32)ns; /* arms */
}

static void rtc_disarm(void)
{
    *reg32(RTC + RTC_CLEAR_ALARM) = 1;
    *reg32(RTC + RTC_IRQ_ENABLED) = 0;
    *reg32(RTC + RTC_CLEAR_INTERRUPT) = 1;
}

/* In so many seconds from the start of the present one: the D1's counts whole seconds. */
static void d1_arm(u64 seconds)
{
    u32 day = *reg32(D1_RTC + D1_DAY), time = *reg32(D1_RTC + D1_TIME);
    seconds += day * 86400UL + (time >> 16 & 31) * 3600 + (time >> 8 & 63) * 60 + (time & 63);
    *reg32(D1_RTC + D1_ALARM_DAY) = (u32)(seconds / 86400);
    *reg32(D1_RTC + D1_ALARM_TIME) = (u32)(seconds / 3600 % 24 << 16 | seconds / 60 % 60 << 8 | seconds % 60);
    *reg32(D1_RTC + D1_IRQ_ENABLE) = 1;
    *reg32(D1_RTC + D1_ALARM_ENABLE) = 1; /* arms */
}

static void d1_disarm(void)
{
    *reg32(D1_RTC + D1_ALARM_ENABLE) = 0;
    *reg32(D1_RTC + D1_IRQ_ENABLE) = 0;
    *reg32(D1_RTC + D1_ALARM_STATUS) = 1; /* clears it */
}

/* Proleptic Gregorian date of a day number since 1970-01-01, counted in years that begin in March. */
static void put_date(u64 days)
{
    u64 z = days + 719468, era = z / 146097, doe = z % 146097;
    u64 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    u64 doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    u64 month = mp < 10 ? mp + 3 : mp - 9;
    putdec(era * 400 + yoe + (month <= 2), 4);
    putch('-');
    putdec(month, 2);
    putch('-');
    putdec(doy - (153 * mp + 2) / 5 + 1, 2);
}

static void cmd_clocks(void)
{
    u64 mono = monotonic_ns(), rtc = rtc_ns(), s = rtc / NS;
    puts("monotonic ");
    putsec(mono);
    puts("\nrtc       ");
    put_date(s / 86400);
    putch(' ');
    putdec(s / 3600 % 24, 2);
    putch(':');
    putdec(s / 60 % 60, 2);
    putch(':');
    putdec(s % 60, 2);
    puts(" UTC, epoch ");
    putsec(rtc);
    puts("\n");
}

/* ---- commands ---- */
long suspend_to_ram(u64 context[14]);
void spin_entry(void);

static int streq(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* A decimal number of at most nine digits; -1 if it is none. */
long number(const char *s)
{
    long v = 0;
    int n = 0;
    for (; *s >= '0' && *s <= '9' && n < 10; s++, n++)
        v = v * 10 + (*s - '0');
    return *s || n == 0 || n > 9 ? -1 : v;
}

static void put_failure(const char *what, long error)
{
    puts(what);
    puts(": SBI error -");
    putdec((u64)-error, 1);
    puts("\n");
}

static void cmd_sleep(const char *arg, int by_d1)
{
    static u64 context[14];
    long seconds = *arg ? number(arg) : 0;
    if (seconds < 0) {
        puts("sleep: expected whole seconds\n");
        return;
    }
    if (!sbi_has(EXT_SUSP)) {
        puts("sleep: this machine has no suspend to RAM (SBI SUSP is absent)\n");
        return;
    }
    if (*arg) {
        puts("asleep, alarm in ");
        putdec((u64)seconds, 1);
        puts(" s\n");
    } else {
        puts("asleep, no alarm: wake me with system_wakeup\n");
    }
    plic_enable(1u << (by_d1 ? IRQ_D1_RTC : IRQ_RTC));
    u64 rtc = rtc_ns(), mono = monotonic_ns();
    if (by_d1)
        d1_arm((u64)seconds);
    else if (*arg)
        rtc_arm(rtc + (u64)seconds * NS);
    long error = suspend_to_ram(context);
    rtc = rtc_ns() - rtc;
    mono = monotonic_ns() - mono;
    if (by_d1)
        d1_disarm();
    else
        rtc_disarm();
    u32 irq = *plic_claim();
    if (irq)
        *plic_claim() = irq;
    plic_enable(1u << IRQ_UART);
    asm volatile("csrw sie, %0" ::"r"(1UL << 9));
    if (error) {
        put_failure("sleep", error);
        return;
    }
    puts("awake after ");
    putsec(rtc);
    puts(" by the RTC, monotonic moved ");
    putsec(mono);
    puts("\n");
}

/* Keeps this hart, and `harts - 1` further ones, busy until a key comes; the key stays typed. */
static void cmd_spin(const char *arg)
{
    static volatile u32 spinning;
    long harts = *arg ? number(arg) : 1, busy = 1;
    if (harts < 1) {
        puts("spin: expected a number of harts\n");
        return;
    }
    spinning = 1;
    asm volatile("fence" ::: "memory");
    for (u64 hart = 0; busy < harts; hart++) {
        long error = sbi(EXT_HSM, 0, hart, (u64)spin_entry, (u64)&spinning).error;
        if (error == -3) /* INVALID_PARAM: no such hart */
            break;
        busy += error == 0;
    }
    puts("spinning on ");
    putdec((u64)busy, 1);
    puts(busy == 1 ? " hart until a key is pressed\n" : " harts until a key is pressed\n");
    u64 rounds = 0;
    do {
        for (u32 i = 0; i < 100000; i++)
            asm volatile("");
        rounds++;
    } while (!typed_any());
    spinning = 0;
    puts("spun ");
    putdec(rounds, 1);
    puts(" rounds\n");
}

static void cmd_harts(void)
{
    u64 hart = 0;
    for (;; hart++) {
        struct sbiret r = sbi(EXT_HSM, 2, hart, 0, 0);
        if (r.error)
            break;
        puts("hart ");
        putdec(hart, 1);
        puts(r.value == 0 ? " started" : r.value == 1 ? " stopped" : " changing");
        puts(hart == boot_hart ? ", this one\n" : "\n");
    }
    putdec(hart, 1);
    puts(hart == 1 ? " hart\n" : " harts\n");
}

static void system_reset(u64 type, u64 reason)
{
    /* In loopback the line is cut: what has not arrived yet waits on the host's side for the next life. What has
     * arrived is taken over, and the two milliseconds are for a byte that was under way. */
    *reg8(UART + UART_MCR) = MCR_LOOP;
    for (u64 t = monotonic_ns(); monotonic_ns() - t < 2000000;)
        if (typed_drain())
            t = monotonic_ns();
    typed.seal = typed_seal();
    asm volatile("fence" ::: "memory");
    long error = sbi(EXT_SRST, 0, type, reason, 0).error;
    *reg8(UART + UART_MCR) = 0;
    put_failure("SRST", error);
}

/* Has the watchdog bite in so many seconds unless it is told again; 0 stops it. */
static void cmd_watchdog(const char *arg)
{
    static const u8 whole[] = {0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16};
    long seconds = number(arg);
    for (u32 i = 0; i < sizeof whole; i++) {
        if (whole[i] == seconds) {
            *reg32(WATCHDOG + 4) = 0;
            if (seconds)
                *reg32(WATCHDOG + 4) = i << 3 | 3;
            puts(seconds ? "watchdog: armed\n" : "watchdog: stopped\n");
            return;
        }
    }
    puts("watchdog: expected 0 to 6, 8, 10, 12, 14 or 16 seconds\n");
}

/* Ends the machine with this exit status through the test finisher. */
static void cmd_fail(const char *arg)
{
    long code = number(arg);
    if (code < 0 || code > 0xffff)
        puts("fail: expected an exit status\n");
    else
        *reg32(TEST) = (u32)code << 16 | 0x3333;
}

/* Tells the panic device: 1 panicked, 2 a crash kernel runs, 4 shut down. */
static void cmd_event(const char *arg)
{
    long bits = number(arg);
    if (bits < 1 || bits > 0xff) {
        puts("event: expected the bits of the panic device\n");
        return;
    }
    *reg8(PVPANIC) = (u8)bits;
    puts("event: told\n");
}

static void cmd_help(void)
{
    puts("clocks           monotonic time and the RTC, as this guest sees them\n"
         "sleep [SECONDS]  suspend to RAM, with an alarm if SECONDS are given\n"
         "nap SECONDS      the same with the alarm of the other RTC, the D1's\n"
         "spin [HARTS]     keep a hart (or more) busy until a key is pressed\n"
         "fill MIB         write so much memory in a way that can be checked\n"
         "check            compare what was filled\n"
         "churn MIB [RATE] rewrite that much of it, RATE MiB a second, until a key is pressed\n"
         "harts            list the harts\n"
         "panic            power off because of a system failure\n"
         "event BITS       tell the panic device: 1 panicked, 2 crash kernel, 4 shutdown\n"
         "watchdog SECONDS have the watchdog bite, 0 to stop it\n"
         "fail STATUS      power off with this exit status\n"
         "reset            reboot\n"
         "poweroff         power off\n"
         "help             this list\n");
}

static void execute(const char *name, char *arg)
{
    if (streq(name, "sleep"))
        cmd_sleep(arg, 0);
    else if (streq(name, "nap"))
        *arg ? cmd_sleep(arg, 1) : puts("nap: expected whole seconds\n");
    else if (streq(name, "spin"))
        cmd_spin(arg);
    else if (streq(name, "watchdog"))
        cmd_watchdog(arg);
    else if (streq(name, "fail"))
        cmd_fail(arg);
    else if (streq(name, "event"))
        cmd_event(arg);
    else if (streq(name, "fill"))
        cmd_fill(arg);
    else if (streq(name, "check"))
        cmd_check(arg);
    else if (streq(name, "churn"))
        cmd_churn(arg);
    else if (*arg)
        puts(name), puts(": too many words; try help\n");
    else if (streq(name, "clocks"))
        cmd_clocks();
    else if (streq(name, "harts"))
        cmd_harts();
    else if (streq(name, "panic"))
        puts("panic: as you wish\n"), system_reset(SRST_SHUTDOWN, 1);
    else if (streq(name, "reset"))
        system_reset(SRST_COLD_REBOOT, 0);
    else if (streq(name, "poweroff"))
        system_reset(SRST_SHUTDOWN, 0);
    else if (streq(name, "help"))
        cmd_help();
    else
        puts(name), puts(": unknown command; try help\n");
}

/* ---- line input ---- */
#define LINE 80

static void read_line(char *line)
{
    static int last;
    int n = 0;
    for (;;) {
        int c = getch(), after = last;
        last = c;
        if (c == '\n' && after == '\r')
            continue;
        if (c == '\r' || c == '\n')
            break;
        if (c == 3 || c == 21) { /* C-c, C-u: begin again */
            for (; n; n--)
                puts("\b \b");
        } else if (c == 8 || c == 127) {
            if (n)
                n--, puts("\b \b");
        } else if (c >= ' ' && c < 127 && n < LINE - 1) {
            line[n++] = (char)c;
            putch((char)c);
        }
    }
    line[n] = 0;
    puts("\n");
}

/* Cuts off the first word; gives it, and moves the pointer to what follows without the blanks around it. */
char *first_word(char **rest)
{
    char *p = *rest, *end;
    while (*p == ' ')
        p++;
    char *word = p;
    while (*p && *p != ' ')
        p++;
    if (*p)
        *p++ = 0;
    while (*p == ' ')
        p++;
    *rest = p;
    for (end = p; *end; end++)
        ;
    while (end > p && end[-1] == ' ')
        *--end = 0;
    return word;
}

void guest_trap(u64 cause, u64 pc, u64 value)
{
    puts("\ntrap: scause ");
    puthex(cause);
    puts(" sepc ");
    puthex(pc);
    puts(" stval ");
    puthex(value);
    puts("\n");
    system_reset(SRST_SHUTDOWN, 1);
    for (;;)
        asm volatile("wfi");
}

void guest_main(u64 hart, const void *device_tree)
{
    char line[LINE];
    boot_hart = hart;
    memory_find(device_tree);
    if (typed.head - typed.tail > sizeof typed.buf || typed.seal != typed_seal())
        typed.head = typed.tail = 0;
    typed.seal = 0;
    *reg8(UART + UART_IER) = IER_RX;
    *reg32(PLIC + 4 * IRQ_UART) = 1;
    *reg32(PLIC + 4 * IRQ_RTC) = 1;
    *reg32(PLIC + 4 * IRQ_D1_RTC) = 1;
    *reg32(PLIC + 0x200000 + 0x1000 * plic_context()) = 0; /* threshold */
    plic_enable(1u << IRQ_UART);
    asm volatile("csrw sie, %0" ::"r"(1UL << 9)); /* SEIE: lets the PLIC end a wfi */
    puts("\nThis is the guest that comes with dormouse. Try help.\n");
    for (;;) {
        puts("dormouse> ");
        read_line(line);
        char *rest = line, *name = first_word(&rest);
        if (*name)
            execute(name, rest);
    }
}
