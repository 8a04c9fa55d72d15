
/*
 * Copyright (C) the ngx-llm authors
 *
 * Numbers, money and times: as people read and write them.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static void value_scaled(text_t *t, double n, double step,
    const char *const *units);
static int value_date(const char *s, time_t *at);


void
value_count(text_t *t, double n)
{
    static const char *const  units[] = { "", " k", " M", " G", " T", NULL };

    if (!isfinite(n)) {
        text_add(t, "-");
        return;
    }

    if (fabs(n) < 10000) {
        text_printf(t, "%.0f", n);
        return;
    }

    value_scaled(t, n, 1000, units);
}


void
value_bytes(text_t *t, double n)
{
    static const char *const  units[] = {
        " B", " KB", " MB", " GB", " TB", NULL
    };

    if (!isfinite(n)) {
        text_add(t, "-");
        return;
    }

    value_scaled(t, n, 1024, units);
}


static void
value_scaled(text_t *t, double n, double step, const char *const *units)
{
    int  i;

    /* 999.95 k would be written as 1000.0 k */

    for (i = 0; units[i + 1] != NULL && fabs(n) >= step - 0.05; i++) {
        n /= step;
    }

    text_printf(t, "%.*f%s", i == 0 || fabs(n) >= 99.95 ? 0 : 1, n, units[i]);
}


void
value_usd(text_t *t, double usd)
{
    int   i, len;
    char  buf[64];

    if (!isfinite(usd) || fabs(usd) > 1e15) {
        text_add(t, "-");
        return;
    }

    if (usd < 0) {
        text_add(t, "-");
        usd = -usd;
    }

    if (usd > 0 && usd < 0.005) {
        text_add(t, "<$0.01");
        return;
    }

    len = snprintf(buf, sizeof(buf), "%.2f", usd);
    text_add(t, "$");

    for (i = 0; i < len; i++) {
        if (i != 0 && i < len - 3 && (len - 3 - i) % 3 == 0) {
            text_add(t, ",");
        }

        text_bytes(t, &buf[i], 1);
    }
}


void
value_ms(text_t *t, double ms)
{
    if (!isfinite(ms)) {
        text_add(t, "-");

    } else if (ms < 1000) {
        text_printf(t, "%.0f ms", ms);

    } else if (ms < 60000) {
        text_printf(t, "%.1f s", ms / 1000);

    } else {
        value_span(t, ms / 1000);
    }
}


void
value_ratio(text_t *t, double part, double whole)
{
    if (!isfinite(part) || !isfinite(whole) || whole <= 0) {
        text_add(t, "-");
        return;
    }

    text_printf(t, "%.1f %%", 100 * part / whole);
}


void
value_span(text_t *t, double seconds)
{
    int64_t  s;

    if (!isfinite(seconds) || seconds < 0 || seconds > 1e12) {
        text_add(t, "-");
        return;
    }

    s = (int64_t) seconds;

    if (s < 60) {
        text_printf(t, "%d s", (int) s);

    } else if (s < 3600) {
        text_printf(t, "%d min", (int) (s / 60));

    } else if (s < 86400) {
        text_printf(t, "%d h %d min", (int) (s / 3600), (int) (s / 60 % 60));

    } else {
        text_printf(t, "%lld d %d h", (long long) (s / 86400),
                    (int) (s / 3600 % 24));
    }
}


void
value_time(text_t *t, const char *iso)
{
    if (iso == NULL) {
        text_add(t, "-");

    } else if (value_iso(iso) == -1) {
        text_show(t, iso, 0);

    } else {
        /* the seconds say little */
        text_printf(t, "%.10s %.5s", iso, iso + 11);
    }
}


time_t
value_iso(const char *iso)
{
    time_t  at;

    if (strlen(iso) < 20 || iso[10] != 'T' || iso[strlen(iso) - 1] != 'Z'
        || value_date(iso, &at) != 0)
    {
        return -1;
    }

    return at;
}


int
value_read_int(const char *s, int64_t *n)
{
    int64_t  value, scale;

    value = 0;

    if (*s < '0' || *s > '9') {
        return -1;
    }

    for ( /* void */ ; *s >= '0' && *s <= '9'; s++) {
        if (value > (INT64_MAX - 9) / 10) {
            return -1;
        }

        value = value * 10 + (*s - '0');
    }

    scale = *s == 'k' ? 1000 : *s == 'M' ? 1000000 : 1;

    if (s[scale != 1] != '\0' || value > INT64_MAX / scale) {
        return -1;
    }

    *n = value * scale;

    return 0;
}


int
value_read_span(const char *s, int64_t *seconds)
{
    char        digits[16];
    size_t      len;
    int64_t     n;
    const char  *unit;

    static const char     units[] = "smhdw";
    static const int64_t  lengths[] = { 1, 60, 3600, 86400, 604800 };

    len = strspn(s, "0123456789");

    if (len == 0 || len >= sizeof(digits)) {
        return -1;
    }

    memcpy(digits, s, len);
    digits[len] = '\0';

    if (value_read_int(digits, &n) != 0 || n > 1000000000000) {
        return -1;
    }

    if (s[len] == '\0') {
        *seconds = n;
        return 0;
    }

    unit = strchr(units, s[len]);

    if (unit == NULL || s[len + 1] != '\0') {
        return -1;
    }

    *seconds = n * lengths[unit - units];

    return 0;
}


int
value_read_time(const char *s, time_t now, text_t *iso)
{
    char       buf[64];
    time_t     at;
    int64_t    n;
    struct tm  tm;

    if (*s == '+' || *s == '-') {
        if (value_read_span(s + 1, &n) != 0 || n > 1000000000000) {
            return -1;
        }

        at = *s == '+' ? now + (time_t) n : now - (time_t) n;

    } else if (strspn(s, "0123456789") == strlen(s)) {
        if (value_read_int(s, &n) != 0) {
            return -1;
        }

        at = (time_t) n;

    } else if (value_date(s, &at) != 0) {
        return -1;
    }

    /* the years that have four digits */

    if (at < 0 || at > 253402300799 || gmtime_r(&at, &tm) == NULL) {
        return -1;
    }

    strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
    text_add(iso, buf);

    return 0;
}


/* 2026-12-01, 2026-12-01 10:00, 2026-12-01T10:00:00Z, fractions dropped */

static int
value_date(const char *s, time_t *at)
{
    int        n;
    struct tm  tm, same;

    memset(&tm, 0, sizeof(tm));
    n = 0;

    if (strspn(s, "0123456789") != 4
        || sscanf(s, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                  &n) != 3 || n != 10)
    {
        return -1;
    }

    s += n;

    if (*s == 'T' || *s == ' ') {
        s++;
        n = 0;

        if (sscanf(s, "%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &n) != 2
            || n != 5)
        {
            return -1;
        }

        s += n;

        if (*s == ':') {
            n = 0;

            if (sscanf(s, ":%2d%n", &tm.tm_sec, &n) != 1 || n != 3) {
                return -1;
            }

            s += n;

            if (*s == '.') {
                s += 1 + strspn(s + 1, "0123456789");
            }
        }

        s += *s == 'Z';
    }

    tm.tm_year -= 1900;
    tm.tm_mon--;
    same = tm;
    *at = timegm(&tm);

    /* the 31st of February is another day */

    return *s == '\0' && *at != -1 && tm.tm_mday == same.tm_mday
           && tm.tm_mon == same.tm_mon && tm.tm_hour == same.tm_hour
           && tm.tm_min == same.tm_min && tm.tm_sec == same.tm_sec ? 0 : -1;
}
