/*
 * Work on memory that can be checked: whoever stops, saves or moves this guest finds out here what was lost.
 *
 * `fill` writes pages that cannot be compressed, each from a seed of its own; `check` makes the same bytes again and
 * compares. `churn` rewrites a part of them at a steady pace, each page with a number that says how often, and looks
 * before each write whether page, clocks and the rest are as it left them.
 */
#include "guest.h"

#define PAGE 4096UL
#define WORDS (PAGE / 8)
#define MIB (1UL << 20)
#define BASE 0x81000000UL /* 16 MiB above the start of RAM: clear of this program and of firmware */

/* End of RAM, by the device tree; 0: not known. What `fill` wrote survives no reset, so this is all it keeps. */
static u64 ram_end;
static u64 filled; /* pages */

/* ---- device tree (specification 0.4, chapter 5) ---- */
static u32 be32(const void *at)
{
    const u8 *b = at;
    return (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
}

static int begins(const char *s, const char *with)
{
    while (*with)
        if (*s++ != *with++)
            return 0;
    return 1;
}

/* Two address cells and two size cells, as `virt` has them. */
void memory_find(const void *device_tree)
{
    const u8 *tree = device_tree;
    if (be32(tree) != 0xd00dfeed)
        return;
    const u8 *at = tree + be32(tree + 8), *end = tree + be32(tree + 4);
    const char *names = (const char *)tree + be32(tree + 12);
    int memory = 0;
    while (at < end) {
        u32 token = be32(at);
        at += 4;
        if (token == 1) { /* FDT_BEGIN_NODE */
            memory = begins((const char *)at, "memory@");
            while (*at)
                at++;
            at = (const u8 *)(((u64)at + 4) & ~3UL);
        } else if (token == 3) { /* FDT_PROP */
            u32 length = be32(at);
            if (memory && length >= 16 && begins(names + be32(at + 4), "reg"))
                ram_end = ((u64)be32(at + 8) << 32 | be32(at + 12)) + ((u64)be32(at + 16) << 32 | be32(at + 20));
            at = (const u8 *)(((u64)at + 8 + length + 3) & ~3UL);
        } else if (token == 9) { /* FDT_END */
            return;
        }
    }
}

/* ---- pages ---- */

/* Generator "xorshift64*" (Vigna 2016), seeded by the number of the page. */
static u64 seed(u64 page) { return (page + 1) * 0x9e3779b97f4a7c15UL | 1; }

static u64 next(u64 *state)
{
    u64 x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dUL;
}

static u64 *page_at(u64 page) { return (u64 *)(BASE + page * PAGE); }

/* The last word goes with the first, which counts the rewrites. */
static u64 mark(u64 page, u64 count) { return (count ^ page << 32) * 0x9e3779b97f4a7c15UL; }

static void write_page(u64 page)
{
    volatile u64 *words = page_at(page);
    u64 state = seed(page);
    words[0] = 0;
    for (u64 i = 1; i < WORDS - 1; i++)
        words[i] = next(&state);
    words[WORDS - 1] = mark(page, 0);
}

static int page_is_right(u64 page)
{
    const volatile u64 *words = page_at(page);
    u64 state = seed(page), wrong = words[WORDS - 1] ^ mark(page, words[0]);
    for (u64 i = 1; i < WORDS - 1; i++)
        wrong |= words[i] ^ next(&state);
    return wrong == 0;
}

void cmd_fill(char *arg)
{
    long mib = number(arg);
    if (mib < 1 || BASE + (u64)mib * MIB > ram_end) {
        puts("fill: expected a number of MiB that fits into RAM, of which it leaves the first 16\n");
        return;
    }
    filled = 0;
    for (u64 page = 0; page < (u64)mib * MIB / PAGE; page++)
        write_page(page);
    filled = (u64)mib * MIB / PAGE;
    puts("filled ");
    putdec(filled, 1);
    puts(" pages\n");
}

void cmd_check(char *arg)
{
    u64 wrong = 0;
    if (*arg) {
        puts("check: too many words\n");
        return;
    }
    for (u64 page = 0; page < filled; page++)
        wrong += !page_is_right(page);
    puts("checked ");
    putdec(filled, 1);
    puts(" pages, ");
    putdec(wrong, 1);
    puts(" wrong\n");
}

/* ---- churn ---- */

/* What it has seen so far. Gaps are those between two looks at a clock. */
struct churn { u64 pages, wrong, back, monotonic, rtc, gap, rtc_gap; };

static void look_at_clocks(struct churn *c)
{
    u64 monotonic = monotonic_ns(), rtc = rtc_ns();
    c->back += monotonic < c->monotonic || rtc < c->rtc;
    if (monotonic - c->monotonic > c->gap)
        c->gap = monotonic - c->monotonic;
    if (rtc > c->rtc && rtc - c->rtc > c->rtc_gap)
        c->rtc_gap = rtc - c->rtc;
    c->monotonic = monotonic;
    c->rtc = rtc;
}

static void rewrite(struct churn *c, u64 page)
{
    volatile u64 *words = page_at(page);
    u64 count = words[0];
    c->wrong += words[WORDS - 1] != mark(page, count);
    words[0] = count + 1;
    words[WORDS - 1] = mark(page, count + 1);
    c->pages++;
}

static void churn(struct churn *c, u64 pages, u64 per_second, u64 beat_ns)
{
    u64 start = monotonic_ns(), beat = start + beat_ns, page = 0;
    c->monotonic = start;
    c->rtc = rtc_ns();
    while (!typed_any()) {
        look_at_clocks(c);
        /* As many as are due by now, in small portions, so that clocks and keys are looked at. */
        u64 due = per_second ? (c->monotonic - start) / 1000 * per_second / 1000000 : ~0UL;
        for (int portion = 0; portion < 64 && c->pages < due; portion++) {
            rewrite(c, page);
            page = page + 1 < pages ? page + 1 : 0;
        }
        if (beat_ns && c->monotonic >= beat) {
            putch('.');
            beat = c->monotonic + beat_ns;
        }
    }
}

/* churn MIB [RATE [BEAT]] */
void cmd_churn(char *arg)
{
    char *mib_word = first_word(&arg), *rate_word = first_word(&arg);
    long mib = number(mib_word), rate = *rate_word ? number(rate_word) : 0, beat = *arg ? number(arg) : 0;
    if (mib < 1 || rate < 0 || beat < 0 || (u64)mib * MIB / PAGE > filled) {
        puts("churn: expected MiB (of those filled), MiB a second (0: as fast as can be), microseconds between dots\n");
        return;
    }
    struct churn c = {0};
    puts("churning until a key is pressed\n");
    churn(&c, (u64)mib * MIB / PAGE, (u64)rate * (MIB / PAGE), (u64)beat * 1000);
    puts("\nchurned ");
    putdec(c.pages, 1);
    puts(" pages, ");
    putdec(c.wrong, 1);
    puts(" wrong, clocks went back ");
    putdec(c.back, 1);
    puts(" times, longest gap ");
    putsec(c.gap);
    puts(", by the RTC ");
    putsec(c.rtc_gap);
    puts("\n");
}
