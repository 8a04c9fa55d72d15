
/*
 * Copyright (C) the ngx-llm authors
 *
 * Values of the tenants file that JSON has no type for.
 */


#include "core/llm_policy_private.h"

#include <stdio.h>


static int llm_policy_digits(const char **s, const char *end, unsigned n);
static int llm_policy_zone(const char **s, const char *end, int *minutes);
static int64_t llm_policy_days(int year, int month, int day);
static int llm_policy_month(int year, int month);


int
llm_policy_is_name(const char *s, size_t len)
{
    char    c;
    size_t  i;

    if (len == 0 || len > LLM_POLICY_NAME_MAX) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        c = s[i];

        if ((c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
            && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-')
        {
            return 0;
        }
    }

    return 1;
}


int
llm_policy_read_hex(const char *s, size_t len, unsigned char *bytes)
{
    char      c;
    size_t    i;
    unsigned  digit;

    if (len != 64) {
        return LLM_ERROR;
    }

    for (i = 0; i < 64; i++) {
        c = s[i];

        if (c >= '0' && c <= '9') {
            digit = (unsigned) (c - '0');

        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (unsigned) ((c | 0x20) - 'a' + 10);

        } else {
            return LLM_ERROR;
        }

        bytes[i / 2] = (unsigned char) (i % 2 ? bytes[i / 2] | digit
                                              : digit << 4);
    }

    return LLM_OK;
}


int
llm_policy_read_stamp(const char *s, size_t len, int64_t *time)
{
    int          year, month, day, hour, minute, second, zone;
    const char  *end;

    end = s + len;

    year = llm_policy_digits(&s, end, 4);

    if (year < 0 || s == end || *s++ != '-') {
        return LLM_ERROR;
    }

    month = llm_policy_digits(&s, end, 2);

    if (month < 1 || month > 12 || s == end || *s++ != '-') {
        return LLM_ERROR;
    }

    day = llm_policy_digits(&s, end, 2);

    if (day < 1 || day > llm_policy_month(year, month)
        || s == end || (*s++ | 0x20) != 't')
    {
        return LLM_ERROR;
    }

    hour = llm_policy_digits(&s, end, 2);

    if (hour < 0 || hour > 23 || s == end || *s++ != ':') {
        return LLM_ERROR;
    }

    minute = llm_policy_digits(&s, end, 2);

    if (minute < 0 || minute > 59 || s == end || *s++ != ':') {
        return LLM_ERROR;
    }

    /* a leap second may be */

    second = llm_policy_digits(&s, end, 2);

    if (second < 0 || second > 60
        || llm_policy_zone(&s, end, &zone) != LLM_OK || s != end)
    {
        return LLM_ERROR;
    }

    *time = llm_policy_days(year, month, day) * 86400
            + hour * 3600 + (minute - zone) * 60 + second;

    /* 0 is to say "never" */

    if (*time < 1) {
        *time = 1;
    }

    return LLM_OK;
}


/* the way back of llm_policy_days() */

void
llm_policy_show_stamp(char text[LLM_POLICY_TIME], int64_t time)
{
    int64_t  day, era, left, year, month;

    if (time < 0 || time > 253402300799) {
        time = time < 0 ? 0 : 253402300799;
    }

    day = time / 86400 + 719468;
    era = day / 146097;
    left = day % 146097;

    year = (left - left / 1460 + left / 36524 - left / 146096) / 365;
    left -= 365 * year + year / 4 - year / 100;
    month = (5 * left + 2) / 153;
    left -= (153 * month + 2) / 5;

    year += era * 400 + (month >= 10);
    month += month < 10 ? 3 : -9;

    snprintf(text, LLM_POLICY_TIME, "%04d-%02d-%02dT%02d:%02d:%02dZ",
             (int) year, (int) month, (int) left + 1,
             (int) (time / 3600 % 24), (int) (time / 60 % 60),
             (int) (time % 60));
}


/* a fraction, which is of no interest, and the distance from UTC */

static int
llm_policy_zone(const char **s, const char *end, int *minutes)
{
    int   sign, hour, minute;
    char  c;

    if (*s != end && **s == '.') {
        (*s)++;

        do {
            if (llm_policy_digits(s, end, 1) < 0) {
                return LLM_ERROR;
            }

        } while (*s != end && **s >= '0' && **s <= '9');
    }

    if (*s == end) {
        return LLM_ERROR;
    }

    c = *(*s)++;
    *minutes = 0;

    if ((c | 0x20) == 'z') {
        return LLM_OK;
    }

    if (c != '+' && c != '-') {
        return LLM_ERROR;
    }

    sign = c == '+' ? 1 : -1;

    hour = llm_policy_digits(s, end, 2);

    if (hour < 0 || hour > 23 || *s == end || *(*s)++ != ':') {
        return LLM_ERROR;
    }

    minute = llm_policy_digits(s, end, 2);

    if (minute < 0 || minute > 59) {
        return LLM_ERROR;
    }

    *minutes = sign * (hour * 60 + minute);

    return LLM_OK;
}


/* n digits as a number, or -1 */

static int
llm_policy_digits(const char **s, const char *end, unsigned n)
{
    int  value;

    value = 0;

    while (n-- > 0) {

        if (*s == end || **s < '0' || **s > '9') {
            return -1;
        }

        value = value * 10 + (*(*s)++ - '0');
    }

    return value;
}


/*
 * Days since the epoch, exact behind it: a year that begins in March ends
 * with its leap day, and 719468 days lie in front.
 */

static int64_t
llm_policy_days(int year, int month, int day)
{
    int64_t  y, m;

    y = month > 2 ? year : year - 1;
    m = month > 2 ? month - 3 : month + 9;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5
           + day - 1 - 719468;
}


static int
llm_policy_month(int year, int month)
{
    static const unsigned char  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) {
        return 29;
    }

    return days[month - 1];
}
