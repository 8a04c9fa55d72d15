
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_meter.h"

#include <string.h>


#define LLM_METER_DAY    86400
#define LLM_METER_MAX    ((int64_t) 1 << 61)

/*
 * A clock that goes back by at most so many periods may come again; by more,
 * it was wrong before.
 */

#define LLM_METER_BACK   8


static uint32_t llm_meter_date(int64_t wall, unsigned *day, unsigned *length);
static void llm_meter_begin(llm_tally_t *two, uint32_t period);
static const llm_tally_t *llm_meter_tally(const llm_tally_t *two,
    uint32_t period);
static void llm_meter_count(llm_tally_t *two, uint32_t period,
    const llm_amount_t *amount);
static inline int64_t llm_meter_sum(int64_t a, int64_t b);
static void llm_meter_check_rate(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, int64_t need, llm_why_e why, llm_refusal_t *rf);
static void llm_meter_check_tally(int64_t used, uint64_t limit, int64_t need,
    int64_t left_ms, llm_why_e why, llm_refusal_t *rf);
static void llm_meter_refuse(llm_refusal_t *rf, llm_why_e why, int64_t wait,
    uint64_t limit, uint64_t used, int64_t need);
static int64_t llm_meter_least(int64_t least, uint64_t limit, int64_t used);
static void llm_meter_gauge(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, llm_gauge_t *g);


uint32_t
llm_meter_day(int64_t wall)
{
    uint64_t  day;

    day = wall > 0 ? (uint64_t) wall / LLM_METER_DAY : 0;

    return day < UINT32_MAX ? (uint32_t) day + 1 : UINT32_MAX;
}


/* asked for again and again, so the last answer is kept: day and month */

uint32_t
llm_meter_month(int64_t wall)
{
    uint32_t         day, month;
    uint64_t         last;
    unsigned         nth, length;
    static uint64_t  kept;

    day = llm_meter_day(wall);
    last = __atomic_load_n(&kept, __ATOMIC_RELAXED);

    if (last >> 32 == day) {
        return (uint32_t) last;
    }

    month = llm_meter_date(wall, &nth, &length);

    __atomic_store_n(&kept, (uint64_t) day << 32 | month, __ATOMIC_RELAXED);

    return month;
}


int64_t
llm_meter_day_left(const llm_now_t *now)
{
    int64_t  wall;

    wall = now->wall > 0 ? now->wall : 0;

    return (LLM_METER_DAY - wall % LLM_METER_DAY) * 1000;
}


int64_t
llm_meter_month_left(const llm_now_t *now)
{
    unsigned  day, length;

    (void) llm_meter_date(now->wall, &day, &length);

    return llm_meter_day_left(now)
           + (int64_t) (length - 1 - day) * LLM_METER_DAY * 1000;
}


/*
 * The month's number, the day in it from 0, and its length.  Years begin in
 * March here, so that the leap day is the last; 400 of them are 146097 days.
 */

static uint32_t
llm_meter_date(int64_t wall, unsigned *day, unsigned *length)
{
    uint32_t  days, era, year, doy, month;

    days = llm_meter_day(wall) - 1;

    if (days > UINT32_MAX - 719468) {
        days = UINT32_MAX - 719468;
    }

    /* since the first of March of the year 0 */
    days += 719468;

    era = days / 146097;
    days %= 146097;

    year = (days - days / 1460 + days / 36524 - days / 146096) / 365;
    doy = days - (365 * year + year / 4 - year / 100);
    year += era * 400;

    /* five months from March or August on have 153 days */
    month = (5 * doy + 2) / 153;

    *day = doy - (153 * month + 2) / 5;

    if (month == 11) {
        *length = 28 + ((year + 1) % 4 == 0
                        && ((year + 1) % 100 != 0 || (year + 1) % 400 == 0));

    } else {
        *length = (153 * (month + 1) + 2) / 5 - (153 * month + 2) / 5;
    }

    /* month 0 is March of that year, number 1 was January of 1970 */

    return year * 12 + month + 3 - 1970 * 12;
}


void
llm_meter_init(llm_meter_t *m, const llm_now_t *now)
{
    memset(m, 0, sizeof(llm_meter_t));

    m->requests.time = now->ms;
    m->tokens.time = now->ms;
}


void
llm_meter_roll(llm_meter_t *m, const llm_rates_t *rt, const llm_now_t *now)
{
    /* until now the rates were the old; what is unlimited keeps nothing */

    llm_bucket_leak(&m->requests, m->rpm, now->ms);
    llm_bucket_leak(&m->tokens, m->tpm, now->ms);

    if (m->rpm == LLM_UNLIMITED || rt->rpm == LLM_UNLIMITED) {
        m->requests.level = 0;
    }

    if (m->tpm == LLM_UNLIMITED || rt->tpm == LLM_UNLIMITED) {
        m->tokens.level = 0;
    }

    m->rpm = rt->rpm;
    m->tpm = rt->tpm;

    llm_meter_begin(m->day, llm_meter_day(now->wall));
    llm_meter_begin(m->month, llm_meter_month(now->wall));
}


void
llm_meter_check(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_amount_t *need, const llm_now_t *now, llm_refusal_t *rf)
{
    int64_t             left;
    const llm_tally_t  *t;

    memset(rf, 0, sizeof(llm_refusal_t));

    llm_meter_check_rate(&m->requests, rt->rpm, rt->burst, need->requests,
                         LLM_WHY_REQUESTS, rf);
    llm_meter_check_rate(&m->tokens, rt->tpm, rt->burst_tokens, need->tokens,
                         LLM_WHY_TOKENS, rf);

    if ((rt->rpd | rt->tpd | rt->budget) == 0) {
        return;
    }

    t = llm_meter_tally(m->day, llm_meter_day(now->wall));
    left = llm_meter_day_left(now);

    llm_meter_check_tally(t->requests, rt->rpd, need->requests, left,
                          LLM_WHY_REQUESTS_DAY, rf);
    llm_meter_check_tally(t->tokens, rt->tpd, need->tokens, left,
                          LLM_WHY_TOKENS_DAY, rf);

    if (rt->month && rt->budget) {
        t = llm_meter_tally(m->month, llm_meter_month(now->wall));
        left = llm_meter_month_left(now);
    }

    llm_meter_check_tally(t->money, rt->budget, need->money, left,
                          LLM_WHY_BUDGET, rf);
}


void
llm_meter_add(llm_meter_t *m, const llm_amount_t *amount, int64_t wall)
{
    llm_bucket_take(&m->requests, amount->requests);
    llm_bucket_take(&m->tokens, amount->tokens);

    llm_meter_count(m->day, llm_meter_day(wall), amount);
    llm_meter_count(m->month, llm_meter_month(wall), amount);
}


int64_t
llm_meter_tokens_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now)
{
    int64_t             left;
    const llm_tally_t  *t;

    left = INT64_MAX;

    if (rt->tpm != LLM_UNLIMITED) {
        left = llm_bucket_left(&m->tokens, rt->burst_tokens);
    }

    if (rt->tpd != LLM_UNLIMITED) {
        t = llm_meter_tally(m->day, llm_meter_day(now->wall));
        left = llm_meter_least(left, rt->tpd, t->tokens);
    }

    return left;
}


int64_t
llm_meter_money_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now)
{
    const llm_tally_t  *t;

    if (rt->budget == LLM_UNLIMITED) {
        return INT64_MAX;
    }

    t = rt->month ? llm_meter_tally(m->month, llm_meter_month(now->wall))
                  : llm_meter_tally(m->day, llm_meter_day(now->wall));

    return llm_meter_least(INT64_MAX, rt->budget, t->money);
}


void
llm_meter_gauge_requests(const llm_meter_t *m, const llm_rates_t *rt,
    llm_gauge_t *g)
{
    llm_meter_gauge(&m->requests, rt->rpm, rt->burst, g);
}


void
llm_meter_gauge_tokens(const llm_meter_t *m, const llm_rates_t *rt,
    llm_gauge_t *g)
{
    llm_meter_gauge(&m->tokens, rt->tpm, rt->burst_tokens, g);
}


int
llm_meter_idle(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now)
{
    const llm_tally_t  *t;

    if ((rt->rpm != LLM_UNLIMITED && m->requests.level != 0)
        || (rt->tpm != LLM_UNLIMITED && m->tokens.level != 0))
    {
        return 0;
    }

    t = llm_meter_tally(m->day, llm_meter_day(now->wall));

    if ((rt->rpd != LLM_UNLIMITED && t->requests != 0)
        || (rt->tpd != LLM_UNLIMITED && t->tokens != 0))
    {
        return 0;
    }

    if (rt->month) {
        t = llm_meter_tally(m->month, llm_meter_month(now->wall));
    }

    return rt->budget == LLM_UNLIMITED || t->money == 0;
}


/*
 * A new period takes the place of the one before the last.  An earlier one
 * takes no later one's place, so that a clock that goes back for a while
 * finds its count again, unless the later one can be but a mistake: it goes
 * on as the earlier one's.
 */

static void
llm_meter_begin(llm_tally_t *two, uint32_t period)
{
    llm_tally_t  *t, *other;

    t = &two[period & 1];

    if (t->period == period) {
        return;
    }

    if (t->period < period) {
        memset(t, 0, sizeof(llm_tally_t));
        t->period = period;
        return;
    }

    other = &two[(period & 1) ^ 1];

    if ((other->period != 0 && other->period < period)
        || t->period - period > LLM_METER_BACK)
    {
        t->period = period;
    }
}


/* the period's, or, of a clock that went back behind both, the latest */

static const llm_tally_t *
llm_meter_tally(const llm_tally_t *two, uint32_t period)
{
    const llm_tally_t  *t;

    t = &two[period & 1];

    if (t->period == period) {
        return t;
    }

    return two[0].period > two[1].period ? &two[0] : &two[1];
}


static void
llm_meter_count(llm_tally_t *two, uint32_t period, const llm_amount_t *amount)
{
    llm_tally_t  *t;

    t = &two[period & 1];

    if (t->period != period) {
        return;
    }

    t->requests = llm_meter_sum(t->requests, amount->requests);
    t->tokens = llm_meter_sum(t->tokens, amount->tokens);
    t->money = llm_meter_sum(t->money, amount->money);
}


static inline int64_t
llm_meter_sum(int64_t a, int64_t b)
{
    /* "a" is from 0 to the largest, so neither end can be passed */

    a += b < LLM_METER_MAX ? b : LLM_METER_MAX;
    a = a < LLM_METER_MAX ? a : LLM_METER_MAX;

    return a > 0 ? a : 0;
}


static void
llm_meter_check_rate(const llm_bucket_t *b, uint64_t rate, uint64_t burst,
    int64_t need, llm_why_e why, llm_refusal_t *rf)
{
    int64_t  wait;

    if (rate == LLM_UNLIMITED || need <= 0) {
        return;
    }

    wait = llm_bucket_wait(b, rate, burst, (uint64_t) need);

    if (wait != 0) {
        llm_meter_refuse(rf, why, wait, burst, llm_bucket_used(b), need);
    }
}


static void
llm_meter_check_tally(int64_t used, uint64_t limit, int64_t need,
    int64_t left_ms, llm_why_e why, llm_refusal_t *rf)
{
    if (limit == LLM_UNLIMITED || need <= 0) {
        return;
    }

    if ((uint64_t) need > limit) {
        left_ms = -1;

    } else if ((uint64_t) used <= limit - (uint64_t) need) {
        return;
    }

    llm_meter_refuse(rf, why, left_ms, limit, (uint64_t) used, need);
}


/* the longest wait is told, "never" is the longest */

static void
llm_meter_refuse(llm_refusal_t *rf, llm_why_e why, int64_t wait,
    uint64_t limit, uint64_t used, int64_t need)
{
    if (rf->why != LLM_WHY_NONE
        && (rf->wait_ms == -1 || (wait != -1 && wait <= rf->wait_ms)))
    {
        return;
    }

    rf->why = why;
    rf->wait_ms = wait;
    rf->limit = limit;
    rf->used = used;
    rf->need = (uint64_t) need;
}


static int64_t
llm_meter_least(int64_t least, uint64_t limit, int64_t used)
{
    int64_t  left;

    left = (limit < INT64_MAX ? (int64_t) limit : INT64_MAX) - used;

    return left < least ? left : least;
}


static void
llm_meter_gauge(const llm_bucket_t *b, uint64_t rate, uint64_t burst,
    llm_gauge_t *g)
{
    if (rate == LLM_UNLIMITED) {
        memset(g, 0, sizeof(llm_gauge_t));
        return;
    }

    g->limit = burst;
    g->rate = rate;
    g->remaining = llm_bucket_remaining(b, burst);
    g->reset_ms = llm_bucket_reset(b, rate);
}
