/* RFC 3339 times, as CloudEvents' attribute "time" has them. Years 1970 to 9999. */
#include "message.h"

#include <stdbool.h>

struct reader {
    const char *at;
    const char *end;
    bool ok;
};

static unsigned number(struct reader *r, int digits)
{
    unsigned value = 0;

    for (int i = 0; i < digits; i++) {
        if (r->at == r->end || *r->at < '0' || *r->at > '9') {
            r->ok = false;
            return 0;
        }
        value = value * 10 + (unsigned)(*r->at++ - '0');
    }
    return value;
}

static bool skip(struct reader *r, char upper, char lower)
{
    if (r->at == r->end || (*r->at != upper && *r->at != lower))
        return false;
    r->at++;
    return true;
}

static void expect(struct reader *r, char upper, char lower)
{
    if (!skip(r, upper, lower))
        r->ok = false;
}

/* Microseconds; further digits are read over. */
static unsigned fraction(struct reader *r)
{
    unsigned micros = 0;
    int digits = 0;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        if (digits < 6)
            micros = micros * 10 + (unsigned)(*r->at - '0');
        digits++;
        r->at++;
    }
    if (digits == 0)
        r->ok = false;
    for (; digits < 6; digits++)
        micros *= 10;
    return micros;
}

static int64_t offset_s(struct reader *r)
{
    bool ahead = false;
    int64_t seconds = 0;

    if (skip(r, 'Z', 'z'))
        return 0;
    ahead = skip(r, '+', '+');
    if (!ahead)
        expect(r, '-', '-');
    seconds = (int64_t)number(r, 2) * 3600;
    expect(r, ':', ':');
    seconds += (int64_t)number(r, 2) * 60;
    return ahead ? seconds : -seconds;
}

/* Days from 1970-01-01 to the first of March of the year's calendar that begins in March, plus the
 * day within it. */
static int64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    int64_t y = month > 2 ? year : (int64_t)year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9;
    int64_t day_of_year = (153 * m + 2) / 5 + day - 1;

    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

uint64_t message_time_us(struct obx_bytes text)
{
    struct reader r = {.at = text.p, .end = (const char *)text.p + text.len, .ok = text.p != NULL};
    unsigned part[6] = {0}; /* year, month, day, hour, minute, second */
    unsigned micros = 0;
    int64_t seconds = 0;

    if (text.p == NULL)
        return 0;
    part[0] = number(&r, 4);
    expect(&r, '-', '-');
    part[1] = number(&r, 2);
    expect(&r, '-', '-');
    part[2] = number(&r, 2);
    expect(&r, 'T', 't');
    part[3] = number(&r, 2);
    expect(&r, ':', ':');
    part[4] = number(&r, 2);
    expect(&r, ':', ':');
    part[5] = number(&r, 2);
    if (r.ok && skip(&r, '.', '.'))
        micros = fraction(&r);
    seconds = -offset_s(&r);
    if (!r.ok || r.at != r.end || part[0] < 1970 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > 31 || part[3] > 23 || part[4] > 59 || part[5] > 60)
        return 0;
    seconds += days_since_1970(part[0], part[1], part[2]) * 86400;
    seconds += (int64_t)part[3] * 3600 + (int64_t)part[4] * 60 + part[5];
    return seconds > 0 ? (uint64_t)seconds * 1000000 + micros : 0;
}
