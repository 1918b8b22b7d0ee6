/* What the parts of the embedded guest share. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

#define NS 1000000000UL

/* Console. */
void putch(char c);
void puts(const char *s);
void putdec(u64 v, int width);
void putsec(u64 ns);
/* Whether a character has been typed; it stays typed. */
int typed_any(void);

/* Clocks, in nanoseconds: the `time` CSR and the RTC. */
u64 monotonic_ns(void);
u64 rtc_ns(void);

/* Words of a command line: a decimal number of at most nine digits, -1 if it is none; the first word cut off. */
long number(const char *s);
char *first_word(char **rest);

/* memory.c */
void memory_find(const void *device_tree);
void cmd_fill(char *arg);
void cmd_check(char *arg);
void cmd_churn(char *arg);
