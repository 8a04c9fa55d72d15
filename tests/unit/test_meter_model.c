
/*
 * Copyright (C) the ngx-llm authors
 *
 * Meters against a model that keeps each day and month apart and counts in
 * 128 bits.
 */


#include "meter_help.h"


/* the model: all days and months there ever were, in the simplest way */

#define DAYS    80
#define FIRST   20455                  /* number of WALL's day */

typedef struct {
    __int128   level[2];
    uint64_t   time;
    uint64_t   rate[2];
    int64_t    day[DAYS][3];
    int64_t    month[4][3];
} model_t;


static void
model_roll(model_t *mo, const llm_rates_t *rt, uint64_t ms)
{
    unsigned  i;
    uint64_t  rate[2] = { rt->rpm, rt->tpm };

    for (i = 0; i < 2; i++) {

        if (ms > mo->time) {
            mo->level[i] -= (__int128) mo->rate[i] * (ms - mo->time);
        }

        if (mo->level[i] < 0 || mo->rate[i] == 0 || rate[i] == 0) {
            mo->level[i] = 0;
        }

        mo->rate[i] = rate[i];
    }

    mo->time = ms > mo->time ? ms : mo->time;
}


static void
model_add(model_t *mo, const int64_t *a, unsigned day, unsigned month)
{
    unsigned  i;

    for (i = 0; i < 3; i++) {

        if (i < 2) {
            mo->level[i] += (__int128) a[i] * 60000;
            mo->level[i] = mo->level[i] < 0 ? 0 : mo->level[i];
        }

        mo->day[day][i] += a[i];
        mo->day[day][i] = mo->day[day][i] < 0 ? 0 : mo->day[day][i];
        mo->month[month][i] += a[i];
        mo->month[month][i] = mo->month[month][i] < 0
                              ? 0 : mo->month[month][i];
    }
}


static void
model_worst(int64_t wait, llm_why_e why, int64_t *worst, llm_why_e *whose)
{
    if (wait != 0 && *worst != -1 && (wait == -1 || wait > *worst)) {
        *worst = wait;
        *whose = why;
    }
}


static int64_t
model_check(const model_t *mo, const llm_rates_t *rt, const int64_t *need,
    unsigned day, unsigned month, const llm_now_t *now, llm_why_e *why)
{
    int64_t   wait, worst, used[3];
    unsigned  i;
    __int128  over;
    uint64_t  burst[2] = { rt->burst, rt->burst_tokens };
    uint64_t  limit[3] = { rt->rpd, rt->tpd, rt->budget };
    llm_why_e  bucket[2] = { LLM_WHY_REQUESTS, LLM_WHY_TOKENS };
    llm_why_e  tally[3] = { LLM_WHY_REQUESTS_DAY, LLM_WHY_TOKENS_DAY,
                            LLM_WHY_BUDGET };

    worst = 0;
    *why = LLM_WHY_NONE;

    for (i = 0; i < 2; i++) {

        if (mo->rate[i] == 0 || need[i] == 0) {
            continue;
        }

        over = mo->level[i] + ((__int128) need[i] - burst[i]) * 60000;
        wait = over <= 0 ? 0
               : (uint64_t) need[i] > burst[i] ? -1
               : (int64_t) ((over + mo->rate[i] - 1) / mo->rate[i]);

        model_worst(wait, bucket[i], &worst, why);
    }

    used[0] = mo->day[day][0];
    used[1] = mo->day[day][1];
    used[2] = rt->month ? mo->month[month][2] : mo->day[day][2];

    for (i = 0; i < 3; i++) {

        if (limit[i] == 0 || need[i] == 0) {
            continue;
        }

        wait = (uint64_t) (used[i] + need[i]) <= limit[i] ? 0
               : (uint64_t) need[i] > limit[i] ? -1
               : i == 2 && rt->month ? llm_meter_month_left(now)
               : llm_meter_day_left(now);

        model_worst(wait, tally[i], &worst, why);
    }

    return worst;
}


static llm_meter_t   m;
static model_t       mo;
static llm_rates_t   rt;
static unsigned      first;            /* month */


static void
change_rates(void)
{
    rt.rpm = any(4) ? 1 + any(100000) : 0;
    rt.burst = 1 + any(50);
    rt.tpm = any(4) ? 1 + any(10000000) : 0;
    rt.burst_tokens = 1 + any(100000);
    rt.rpd = any(3) ? 1 + any(500) : 0;
    rt.tpd = any(3) ? 1 + any(1000000) : 0;
    rt.budget = any(3) ? 1 + any(1000000) : 0;
    rt.month = (uint32_t) any(2);
}


/* the day before or after, if it is remembered, or new */

static int64_t
wrong_clock(int64_t wall)
{
    int64_t   other;
    uint32_t  day, month, d, n;

    other = wall + (any(2) ? DAY : -DAY);

    if (llm_meter_day(wall) <= FIRST + 2) {
        return wall;
    }

    day = llm_meter_day(other);
    month = llm_meter_month(other);
    d = m.day[day & 1].period;
    n = m.month[month & 1].period;

    if (other > wall ? d <= day && n <= month : d == day && n == month) {
        return other;
    }

    return wall;
}


/* a period that was left behind by two has been forgotten */

static void
forget(void)
{
    unsigned  k;

    for (k = 0; k < DAYS; k++) {
        if (m.day[(FIRST + k) & 1].period != FIRST + k) {
            memset(mo.day[k], 0, sizeof(mo.day[k]));
        }
    }

    for (k = 0; k < 4; k++) {
        if (m.month[(first + k) & 1].period != first + k) {
            memset(mo.month[k], 0, sizeof(mo.month[k]));
        }
    }
}


static void
add(const int64_t *n, int64_t wall)
{
    llm_amount_t  a = { n[0], n[1], n[2] };

    llm_meter_add(&m, &a, wall);
    model_add(&mo, n, llm_meter_day(wall) - FIRST,
              llm_meter_month(wall) - first);
    forget();
}


/*
 * Time goes on, a little or by days; the wall clock may show the day before
 * or after for a while; settlements go to today or the day before it.
 */

static void
walk(void)
{
    int64_t        need[3], right, wall;
    unsigned       i, day, month;
    llm_now_t      now;
    llm_why_e      why;
    llm_refusal_t  rf;

    memset(&mo, 0, sizeof(model_t));
    memset(&rt, 0, sizeof(llm_rates_t));

    now = at(any(1000000), WALL + (int64_t) any(10 * DAY));
    wall = now.wall;
    first = llm_meter_month(WALL);
    mo.time = now.ms;

    llm_meter_init(&m, &now);

    for (i = 0; i < 3000 && wall < WALL + 75 * DAY; i++) {

        if (any(50) == 0) {
            change_rates();
        }

        now.ms += any(3) ? any(300) : any(50000);
        now.ms -= any(20) ? 0 : any(100);
        wall += (int64_t) (any(30) ? any(20) : any(DAY));
        now.wall = any(10) ? wall : wrong_clock(wall);

        day = llm_meter_day(now.wall) - FIRST;
        month = llm_meter_month(now.wall) - first;
        assert_true(day < DAYS && month < 4);

        need[0] = (int64_t) any(3);
        need[1] = any(3) ? (int64_t) any(5000) : 0;
        need[2] = any(3) ? (int64_t) any(5000) : 0;

        llm_meter_roll(&m, &rt, &now);
        model_roll(&mo, &rt, now.ms);
        forget();

        right = model_check(&mo, &rt, need, day, month, &now, &why);
        rf = check(&m, &rt, need[0], need[1], need[2], &now);

        assert_int_equal(rf.wait_ms, right);
        assert_int_equal(rf.why, why);

        if (right == 0 || any(10) == 0) {
            add(need, now.wall);
        }

        /* a settlement: less than reserved, or more, today or yesterday */
        if (any(2) && day > 0) {
            need[0] = 0;
            need[1] = (int64_t) any(5000) - 3000;
            need[2] = (int64_t) any(5000) - 3000;
            add(need, any(3) ? now.wall : now.wall - DAY);
        }

        assert_true((__int128) m.requests.level == mo.level[0]);
        assert_true((__int128) m.tokens.level == mo.level[1]);
        assert_int_equal(m.day[(FIRST + day) & 1].tokens, mo.day[day][1]);
        assert_int_equal(m.month[(first + month) & 1].money,
                         mo.month[month][2]);
    }
}


static void
test_model(void **state)
{
    unsigned  i;

    (void) state;

    seed = 0xd1342543de82ef95;

    for (i = 0; i < 200; i++) {
        walk();
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
