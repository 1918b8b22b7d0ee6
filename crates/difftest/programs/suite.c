/* Small freestanding programs, each of which prints one line with its result. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

extern u64 save(u64 *context) __attribute__((returns_twice));
extern void restore(u64 *context, u64 value) __attribute__((noreturn));

static void put(char c) { *(volatile u8 *)0x10000000 = c; }
static void text(const char *s) { while (*s) put(*s++); }
static void hex(u64 value, int digits)
{
    for (int at = digits - 1; at >= 0; at--)
        put("0123456789abcdef"[value >> 4 * at & 15]);
}
static void line(const char *name, u64 value) { text(name); put(' '); hex(value, 16); put('\n'); }

void trapped(u64 cause, u64 epc, u64 tval)
{
    line("trap cause", cause);
    line("trap epc", epc);
    line("trap tval", tval);
}

/* The compiler calls these. */
void *memcpy(void *to, const void *from, u64 len)
{
    u8 *t = to;
    const u8 *f = from;
    while (len--) *t++ = *f++;
    return to;
}
void *memset(void *at, int value, u64 len)
{
    u8 *p = at;
    while (len--) *p++ = value;
    return at;
}

static u64 state = 88172645463325252ul;
static u64 next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Quicksort of 64-bit numbers, then a check value over the order. */
static i64 numbers[4096];
static void quicksort(i64 *low, i64 *high)
{
    while (low < high) {
        i64 pivot = low[(high - low) / 2], *left = low, *right = high;
        while (left <= right) {
            while (*left < pivot) left++;
            while (*right > pivot) right--;
            if (left <= right) { i64 swap = *left; *left++ = *right; *right-- = swap; }
        }
        quicksort(low, right);
        low = left;
    }
}
static u64 sorting(void)
{
    for (int at = 0; at < 4096; at++) numbers[at] = next();
    quicksort(numbers, numbers + 4095);
    u64 check = 0;
    for (int at = 0; at < 4096; at++) {
        if (at && numbers[at - 1] > numbers[at]) return 0xbad;
        check = check * 31 + numbers[at];
    }
    return check;
}

/* CRC-32 (IEEE 802.3) of the digits 1 to 9: cbf43926. */
static u32 crc(const u8 *bytes, u64 len)
{
    u32 value = ~0u;
    while (len--) {
        value ^= *bytes++;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
    }
    return ~value;
}

/* SHA-256 (FIPS 180-4). The constants are computed: fractional parts of roots of primes, in integers. */
static u32 turn(u32 value, int by) { return value >> by | value << (32 - by); }
static u32 root_bits(u32 prime, int cube)
{
    /* The largest r with r^2 <= p 2^64, or r^3 <= p 2^96, bit by bit; its low 32 bits. */
    unsigned __int128 root = 0;
    for (int bit = 35; bit >= 0; bit--) {
        unsigned __int128 guess = root | (unsigned __int128)1 << bit;
        unsigned __int128 square = guess * guess;
        int fits;
        if (cube) {
            /* guess < 2^36: the cube has up to 108 bits. */
            fits = square * guess <= (unsigned __int128)prime << 96;
        } else
            fits = square <= (unsigned __int128)prime << 64;
        if (fits) root = guess;
    }
    return (u32)root;
}
static void sha256(const u8 *bytes, u64 len, u32 *digest)
{
    u32 constants[64], words[64];
    int count = 0;
    for (u32 number = 2; count < 64; number++) {
        int prime = 1;
        for (u32 by = 2; by * by <= number; by++) if (number % by == 0) prime = 0;
        if (!prime) continue;
        if (count < 8) digest[count] = root_bits(number, 0);
        constants[count++] = root_bits(number, 1);
    }
    u64 total = (len + 9 + 63) / 64 * 64;
    for (u64 block = 0; block < total; block += 64) {
        for (int at = 0; at < 64; at++) {
            u64 place = block + at;
            u8 byte = place < len ? bytes[place] : place == len ? 0x80 : place < total - 8 ? 0 : (len * 8) >> 8 * (total - 1 - place);
            words[at / 4] = words[at / 4] << 8 | byte;
        }
        for (int at = 16; at < 64; at++) {
            u32 a = words[at - 15], b = words[at - 2];
            words[at] = words[at - 16] + words[at - 7] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
        }
        u32 s[8];
        for (int at = 0; at < 8; at++) s[at] = digest[at];
        for (int at = 0; at < 64; at++) {
            u32 one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[at] + words[at];
            u32 two = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            for (int to = 7; to > 0; to--) s[to] = s[to - 1];
            s[4] += one;
            s[0] = one + two;
        }
        for (int at = 0; at < 8; at++) digest[at] += s[at];
    }
}

static u64 bits(double value) { u64 b; __builtin_memcpy(&b, &value, 8); return b; }

static double square_root(double value)
{
    double result;
    __asm__("fsqrt.d %0, %1" : "=f"(result) : "f"(value));
    return result;
}

/* A Mandelbrot row, a logistic map and a Newton square root in both precisions. */
static u64 floating(void)
{
    u64 check = 0;
    for (int x = 0; x < 80; x++) {
        double re = -2.0 + x * 0.0375, im = 0.31, a = 0, b = 0;
        int turns = 0;
        while (a * a + b * b < 4.0 && turns < 200) { double t = a * a - b * b + re; b = 2 * a * b + im; a = t; turns++; }
        check = check * 33 + turns;
    }
    double logistic = 0.3;
    float single = 0.7f;
    for (int turn = 0; turn < 1000; turn++) { logistic = 3.9 * logistic * (1 - logistic); single = 3.7f * single * (1 - single); }
    double root = 2;
    for (int turn = 0; turn < 6; turn++) root = (root + 2 / root) / 2;
    return check ^ bits(logistic) ^ bits(single) ^ bits(root) ^ bits(square_root((double)(next() >> 11)));
}

/* Double-precision addition and multiplication in integers (round to nearest even, normal operands) against the unit. */
static u64 soft_multiply(u64 a, u64 b)
{
    u64 sign = (a ^ b) >> 63 << 63;
    i64 exponent = (i64)(a >> 52 & 2047) + (i64)(b >> 52 & 2047) - 1023;
    unsigned __int128 product = (unsigned __int128)((a & (1ul << 52) - 1) | 1ul << 52) * ((b & (1ul << 52) - 1) | 1ul << 52);
    int shift = 52;
    if (product >> 105) { shift = 53; exponent++; }
    u64 kept = product >> shift;
    u64 rest = product & ((unsigned __int128)1 << shift) - 1, half = 1ul << (shift - 1);
    if (rest > half || (rest == half && kept & 1)) kept++;
    if (kept >> 53) { kept >>= 1; exponent++; }
    return sign | (u64)exponent << 52 | (kept & (1ul << 52) - 1);
}
static u64 soft_float(void)
{
    u64 wrong = 0;
    for (int turn = 0; turn < 2000; turn++) {
        u64 a = (next() & ~(2047ul << 52)) | (900 + next() % 200) << 52, b = (next() & ~(2047ul << 52)) | (900 + next() % 200) << 52;
        double x, y;
        __builtin_memcpy(&x, &a, 8);
        __builtin_memcpy(&y, &b, 8);
        wrong += bits(x * y) != soft_multiply(a, b);
    }
    return wrong;
}

static u64 dividing(void)
{
    u64 check = 0;
    for (int turn = 0; turn < 2000; turn++) {
        u64 a = next() >> next() % 64, b = (next() >> next() % 64) | 1;
        u64 q = a / b, r = a % b;
        if (q * b + r != a || r >= b) return 0xbad;
        i64 sq = (i64)a / (i64)b, sr = (i64)a % (i64)b;
        if (sq * (i64)b + sr != (i64)a) return 0xbad;
        check = check * 31 + q + r + sq + sr + (u32)a / ((u32)b | 1) + ((unsigned __int128)a * b >> 64);
    }
    return check;
}

static u64 strings(void)
{
    char buffer[256];
    u64 check = 0;
    for (int turn = 0; turn < 200; turn++) {
        u64 len = next() % 200;
        for (u64 at = 0; at < len; at++) buffer[at] = 'a' + next() % 26;
        buffer[len] = 0;
        u64 measured = 0;
        while (buffer[measured]) measured++;
        for (u64 at = 0; at < len / 2; at++) { char c = buffer[at]; buffer[at] = buffer[len - 1 - at]; buffer[len - 1 - at] = c; }
        for (u64 at = 0; at < measured; at++) check = check * 131 + buffer[at];
        check += measured;
    }
    return check;
}

static u64 context[8];
static void deep(int level) { if (level == 0) restore(context, 77); deep(level - 1); put('!'); }
static u64 jumping(void)
{
    volatile u64 before = 5;
    u64 value = save(context);
    if (value == 0) { before = 6; deep(20); }
    return before * 1000 + value;
}

int main(void)
{
    line("sort", sorting());
    line("crc", crc((const u8 *)"123456789", 9));
    u32 digest[8];
    sha256((const u8 *)"abc", 3, digest);
    text("sha256 ");
    for (int at = 0; at < 8; at++) hex(digest[at], 8);
    put('\n');
    line("float", floating());
    line("soft", soft_float());
    line("divide", dividing());
    line("strings", strings());
    line("jump", jumping());
    return 0;
}
