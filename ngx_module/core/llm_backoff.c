
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_backoff.h"

#include <string.h>


#define LLM_BACKOFF_DAY      86400
#define LLM_BACKOFF_MAX      ((int64_t) LLM_BACKOFF_DAY * 1000)

/* of 365.2425 days */

#define LLM_BACKOFF_50YEARS  1577847600


typedef struct {
    const unsigned char  *pos;
    const unsigned char  *end;
} llm_backoff_text_t;


typedef struct {
    int                   year;
    int                   month;           /* from 0 */
    int                   day;
    int                   hour;
    int                   minute;
    int                   second;
} llm_backoff_date_t;


static int64_t llm_backoff_number(llm_backoff_text_t t, int scale);
static int64_t llm_backoff_date(llm_backoff_text_t t, int64_t now);
static int llm_backoff_fixdate(llm_backoff_text_t *t, llm_backoff_date_t *d);
static int llm_backoff_ansi(llm_backoff_text_t *t, llm_backoff_date_t *d);
static int llm_backoff_clock(llm_backoff_text_t *t, llm_backoff_date_t *d);
static int llm_backoff_valid(const llm_backoff_date_t *d);
static int64_t llm_backoff_seconds(const llm_backoff_date_t *d);
static void llm_backoff_trim(llm_backoff_text_t *t, const llm_str_t *s);
static int llm_backoff_literal(llm_backoff_text_t *t, const char *s);
static int llm_backoff_name(llm_backoff_text_t *t, const char *const *names,
    int n);
static int llm_backoff_digits(llm_backoff_text_t *t, int n, int *value);


/* the long names are for the form of RFC 850, their starts for the others */

static const char *const  llm_backoff_days[] = {
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday",
    "Saturday"
};

static const char *const  llm_backoff_short_days[] = {
    "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"
};

static const char *const  llm_backoff_months[] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
    "Nov", "Dec"
};


int
llm_backoff_retryable(unsigned status)
{
    return status == 408 || status == 409 || status == 429
           || (status >= 500 && status <= 599);
}


uint64_t
llm_backoff_delay(uint64_t base, uint64_t cap, unsigned retry,
    uint32_t random)
{
    uint64_t  max, high, low;

    if (base == 0) {
        return 0;
    }

    /* a shift that would push bits out is above any cap */

    max = cap;

    if (retry < 64 && base <= UINT64_MAX >> retry && base << retry < cap) {
        max = base << retry;
    }

    if (max == UINT64_MAX) {
        max--;
    }

    /* (max + 1) * random / 2^32: from 0 to max, without a wider type */

    high = (max + 1) >> 32;
    low = (max + 1) & UINT32_MAX;

    return high * random + (low * random >> 32);
}


int64_t
llm_backoff_asked(const llm_str_t *after_ms, const llm_str_t *after,
    int64_t now)
{
    int64_t             ms;
    llm_backoff_text_t  t;

    if (after_ms != NULL) {
        llm_backoff_trim(&t, after_ms);
        ms = llm_backoff_number(t, 1);

        if (ms != -1) {
            return ms;
        }
    }

    if (after == NULL) {
        return -1;
    }

    llm_backoff_trim(&t, after);
    ms = llm_backoff_number(t, 1000);

    if (ms != -1) {
        return ms;
    }

    return llm_backoff_date(t, now);
}


/* 1*DIGIT [ "." 1*DIGIT ] times "scale", in whole ms, rounded up */

static int64_t
llm_backoff_number(llm_backoff_text_t t, int scale)
{
    int      digit, any;
    int64_t  ms, unit;

    ms = 0;
    any = 0;

    for ( ; t.pos < t.end && *t.pos >= '0' && *t.pos <= '9'; t.pos++) {
        any = 1;

        if (ms < LLM_BACKOFF_MAX) {
            ms = ms * 10 + (*t.pos - '0') * scale;
        }
    }

    if (!any) {
        return -1;
    }

    if (t.pos < t.end && *t.pos == '.') {
        t.pos++;
        any = 0;
        unit = scale;

        for ( ; t.pos < t.end && *t.pos >= '0' && *t.pos <= '9'; t.pos++) {
            digit = *t.pos - '0';

            /*
             * While the unit is a whole number of ms, the digit is, too;
             * of all the digits below, only whether one is not 0 matters.
             */

            if (unit >= 10) {
                unit /= 10;
                ms += digit * unit;

            } else if (digit != 0 && unit != 0) {
                unit = 0;
                ms++;
            }

            any = 1;
        }
    }

    if (!any || t.pos != t.end) {
        return -1;
    }

    return ms < LLM_BACKOFF_MAX ? ms : LLM_BACKOFF_MAX;
}


static int64_t
llm_backoff_date(llm_backoff_text_t t, int64_t now)
{
    int64_t             time;
    llm_backoff_text_t  start;
    llm_backoff_date_t  d;

    /* no clock says so, but the sums below could overflow */

    if (now < 0) {
        now = 0;
    }

    start = t;

    if (llm_backoff_fixdate(&t, &d) != LLM_OK) {
        t = start;

        if (llm_backoff_ansi(&t, &d) != LLM_OK) {
            return -1;
        }
    }

    if (t.pos != t.end) {
        return -1;
    }

    /* two digits stand for the year that is at most 50 years away */

    if (d.year < 0) {
        d.year += 2000;

        while (d.year < 9900
               && llm_backoff_seconds(&d) <= now - LLM_BACKOFF_50YEARS)
        {
            d.year += 100;
        }
    }

    if (!llm_backoff_valid(&d)) {
        return -1;
    }

    time = llm_backoff_seconds(&d);

    if (time <= now) {
        return 0;
    }

    if (time - now >= LLM_BACKOFF_DAY) {
        return LLM_BACKOFF_MAX;
    }

    return (time - now) * 1000;
}


/*
 * "Sun, 06 Nov 1994 08:49:37 GMT" and "Sunday, 06-Nov-94 08:49:37 GMT"; the
 * year of the second is left as 94 - 100
 */

static int
llm_backoff_fixdate(llm_backoff_text_t *t, llm_backoff_date_t *d)
{
    int                 old;
    const char         *separator;
    llm_backoff_text_t  start;

    start = *t;
    old = 0;
    separator = " ";

    if (llm_backoff_name(t, llm_backoff_days, 7) != -1) {
        old = 1;
        separator = "-";

    } else {
        *t = start;

        if (llm_backoff_name(t, llm_backoff_short_days, 7) == -1) {
            return LLM_ERROR;
        }
    }

    if (llm_backoff_literal(t, ", ") != LLM_OK
        || llm_backoff_digits(t, 2, &d->day) != LLM_OK
        || llm_backoff_literal(t, separator) != LLM_OK)
    {
        return LLM_ERROR;
    }

    d->month = llm_backoff_name(t, llm_backoff_months, 12);

    if (d->month == -1
        || llm_backoff_literal(t, separator) != LLM_OK
        || llm_backoff_digits(t, old ? 2 : 4, &d->year) != LLM_OK
        || llm_backoff_literal(t, " ") != LLM_OK
        || llm_backoff_clock(t, d) != LLM_OK
        || llm_backoff_literal(t, " GMT") != LLM_OK)
    {
        return LLM_ERROR;
    }

    if (old) {
        d->year -= 100;
    }

    return LLM_OK;
}


/* "Sun Nov  6 08:49:37 1994" */

static int
llm_backoff_ansi(llm_backoff_text_t *t, llm_backoff_date_t *d)
{
    int  digits;

    if (llm_backoff_name(t, llm_backoff_short_days, 7) == -1
        || llm_backoff_literal(t, " ") != LLM_OK)
    {
        return LLM_ERROR;
    }

    d->month = llm_backoff_name(t, llm_backoff_months, 12);

    if (d->month == -1 || llm_backoff_literal(t, " ") != LLM_OK) {
        return LLM_ERROR;
    }

    digits = llm_backoff_literal(t, " ") == LLM_OK ? 1 : 2;

    if (llm_backoff_digits(t, digits, &d->day) != LLM_OK
        || llm_backoff_literal(t, " ") != LLM_OK
        || llm_backoff_clock(t, d) != LLM_OK
        || llm_backoff_literal(t, " ") != LLM_OK
        || llm_backoff_digits(t, 4, &d->year) != LLM_OK)
    {
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_backoff_clock(llm_backoff_text_t *t, llm_backoff_date_t *d)
{
    if (llm_backoff_digits(t, 2, &d->hour) != LLM_OK
        || llm_backoff_literal(t, ":") != LLM_OK
        || llm_backoff_digits(t, 2, &d->minute) != LLM_OK
        || llm_backoff_literal(t, ":") != LLM_OK
        || llm_backoff_digits(t, 2, &d->second) != LLM_OK)
    {
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_backoff_valid(const llm_backoff_date_t *d)
{
    int  days, leap;

    static const int  month[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    leap = d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
    days = month[d->month] + (d->month == 1 && leap);

    /* a leap second is a 60 */

    return d->day >= 1 && d->day <= days
           && d->hour <= 23 && d->minute <= 59 && d->second <= 60;
}


static int64_t
llm_backoff_seconds(const llm_backoff_date_t *d)
{
    int64_t  year, month, days;

    /*
     * In years that begin in March the leap day is the last day of all, and
     * the lengths of the months before follow a straight line.
     */

    year = d->year;
    month = d->month - 2;

    if (month < 0) {
        month += 12;
        year--;
    }

    /* 400 more, so that nothing is negative; 719468 days are up to 1970 */

    year += 400;

    days = year * 365 + year / 4 - year / 100 + year / 400
           + (month * 153 + 2) / 5 + d->day - 1 - 719468 - 146097;

    return ((days * 24 + d->hour) * 60 + d->minute) * 60 + d->second;
}


static void
llm_backoff_trim(llm_backoff_text_t *t, const llm_str_t *s)
{
    t->pos = s->data;
    t->end = s->len != 0 ? s->data + s->len : s->data;

    while (t->pos < t->end && (*t->pos == ' ' || *t->pos == '\t')) {
        t->pos++;
    }

    while (t->pos < t->end && (t->end[-1] == ' ' || t->end[-1] == '\t')) {
        t->end--;
    }
}


static int
llm_backoff_literal(llm_backoff_text_t *t, const char *s)
{
    size_t  len;

    len = strlen(s);

    if ((size_t) (t->end - t->pos) < len || memcmp(t->pos, s, len) != 0) {
        return LLM_ERROR;
    }

    t->pos += len;

    return LLM_OK;
}


static int
llm_backoff_name(llm_backoff_text_t *t, const char *const *names, int n)
{
    int  i;

    for (i = 0; i < n; i++) {
        if (llm_backoff_literal(t, names[i]) == LLM_OK) {
            return i;
        }
    }

    return -1;
}


static int
llm_backoff_digits(llm_backoff_text_t *t, int n, int *value)
{
    *value = 0;

    while (n-- != 0) {
        if (t->pos == t->end || *t->pos < '0' || *t->pos > '9') {
            return LLM_ERROR;
        }

        *value = *value * 10 + (*t->pos++ - '0');
    }

    return LLM_OK;
}
