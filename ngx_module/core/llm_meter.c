
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_meter_inline.h"


#define LLM_METER_DAY    86400

/*
 * A clock that goes back by at most so many periods may come again; by more,
 * it was wrong before.
 */

#define LLM_METER_BACK   8


static uint32_t llm_meter_date(uint32_t number, unsigned *day,
    unsigned *length);
static void llm_meter_check_rate(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, int64_t need, llm_why_e why, llm_refusal_t *rf);
static void llm_meter_check_tally(int64_t used, uint64_t limit, int64_t need,
    int64_t left_ms, llm_why_e why, llm_refusal_t *rf);
static void llm_meter_refuse(llm_refusal_t *rf, llm_why_e why, int64_t wait,
    uint64_t limit, uint64_t used, int64_t need);
static void llm_meter_gauge(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, llm_gauge_t *g);


uint32_t
llm_meter_day(int64_t wall)
{
    return llm_meter_period(wall).day;
}


uint32_t
llm_meter_month(int64_t wall)
{
    return llm_meter_period(wall).month;
}


/* asked for again and again, so the last answer is kept: day and month */

llm_period_t
llm_meter_period(int64_t wall)
{
    uint64_t         day, last;
    unsigned         nth, length;
    llm_period_t     p;
    static uint64_t  kept;

    day = wall > 0 ? (uint64_t) wall / LLM_METER_DAY : 0;
    p.day = day < UINT32_MAX ? (uint32_t) day + 1 : UINT32_MAX;

    last = __atomic_load_n(&kept, __ATOMIC_RELAXED);

    if (last >> 32 == p.day) {
        p.month = (uint32_t) last;
        return p;
    }

    p.month = llm_meter_date(p.day, &nth, &length);

    __atomic_store_n(&kept, (uint64_t) p.day << 32 | p.month,
                     __ATOMIC_RELAXED);

    return p;
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

    (void) llm_meter_date(llm_meter_day(now->wall), &day, &length);

    return llm_meter_day_left(now)
           + (int64_t) (length - 1 - day) * LLM_METER_DAY * 1000;
}


/*
 * Of a day's number: the month's, the day in it from 0, and its length.
 * Years begin in March here, so that the leap day is the last; 400 of them
 * are 146097 days.
 */

static uint32_t
llm_meter_date(uint32_t number, unsigned *day, unsigned *length)
{
    uint32_t  days, era, year, doy, month;

    days = number - 1;

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
    llm_meter_pass(m, rt, now->ms, llm_meter_period(now->wall));
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
llm_meter_check_background(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_amount_t *need, const llm_now_t *now, llm_refusal_t *rf)
{
    llm_meter_t  less;

    less = *m;

    if (rt->rpm != LLM_UNLIMITED && need->requests > 0) {
        less.requests.level += llm_bucket_keep(rt->burst,
                                               (uint64_t) need->requests);
    }

    if (rt->tpm != LLM_UNLIMITED && need->tokens > 0) {
        less.tokens.level += llm_bucket_keep(rt->burst_tokens,
                                             (uint64_t) need->tokens);
    }

    llm_meter_check(&less, rt, need, now, rf);

    if (rf->why == LLM_WHY_REQUESTS) {
        rf->used = llm_bucket_used(&m->requests);

    } else if (rf->why == LLM_WHY_TOKENS) {
        rf->used = llm_bucket_used(&m->tokens);
    }
}


void
llm_meter_add(llm_meter_t *m, const llm_amount_t *amount, int64_t wall)
{
    llm_meter_charge(m, amount, llm_meter_period(wall));
}


int64_t
llm_meter_tokens_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now)
{
    int64_t  left;

    left = rt->tpm == LLM_UNLIMITED
           ? INT64_MAX : llm_bucket_left(&m->tokens, rt->burst_tokens);

    return llm_meter_least_day(left, m, rt, llm_meter_period(now->wall));
}


int64_t
llm_meter_money_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now)
{
    return llm_meter_least_money(INT64_MAX, m, rt,
                                 llm_meter_period(now->wall));
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

void
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
