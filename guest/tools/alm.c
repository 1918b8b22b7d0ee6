// alm SECONDS [DEVICE]: arms the alarm of a real-time clock, SECONDS from what that clock reads now.
//
// DEVICE defaults to /dev/rtc0. The alarm is set with RTC_WKALM_SET, which also reaches a clock whose driver does not
// call itself able to wake (goldfish). Prints `ALM device now=EPOCH alarm=EPOCH`.
#include <fcntl.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    const char *device = argc > 2 ? argv[2] : "/dev/rtc0";
    if (argc < 2) {
        fprintf(stderr, "usage: alm SECONDS [DEVICE]\n");
        return 2;
    }
    int fd = open(device, O_RDONLY);
    if (fd < 0)
        return fail(device);

    struct rtc_time now;
    if (ioctl(fd, RTC_RD_TIME, &now))
        return fail("RTC_RD_TIME");
    struct tm tm = {.tm_sec = now.tm_sec, .tm_min = now.tm_min, .tm_hour = now.tm_hour,
                    .tm_mday = now.tm_mday, .tm_mon = now.tm_mon, .tm_year = now.tm_year};
    time_t epoch = timegm(&tm), due = epoch + atol(argv[1]);
    gmtime_r(&due, &tm);

    struct rtc_wkalrm alarm;
    memset(&alarm, 0, sizeof alarm);
    alarm.enabled = 1;
    alarm.time = (struct rtc_time){.tm_sec = tm.tm_sec, .tm_min = tm.tm_min, .tm_hour = tm.tm_hour,
                                   .tm_mday = tm.tm_mday, .tm_mon = tm.tm_mon, .tm_year = tm.tm_year,
                                   .tm_wday = -1, .tm_yday = -1, .tm_isdst = -1};
    if (ioctl(fd, RTC_WKALM_SET, &alarm))
        return fail("RTC_WKALM_SET");
    printf("ALM %s now=%lld alarm=%lld\n", device, (long long)epoch, (long long)due);
    return 0;
}
