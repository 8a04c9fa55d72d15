
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a target makes of news from another gateway; and two gateways before
 * a provider whose limit begins anew each minute, with letters and without.
 */


#include "target_fixture.h"


#define RATE     600
#define WINDOW   60000
#define FLYING   4096
#define LETTERS  64


static llm_target_news_t
news_of(int64_t limit, int64_t remaining, int64_t reset, uint64_t age)
{
    llm_target_news_t  n;

    n.requests.limit = limit;
    n.requests.remaining = remaining;
    n.requests.reset = reset;
    n.tokens.limit = LLM_TARGET_UNKNOWN;
    n.tokens.remaining = LLM_TARGET_UNKNOWN;
    n.tokens.reset = LLM_TARGET_UNKNOWN;
    n.requests_since = 0;
    n.tokens_since = 0;
    n.cool = LLM_TARGET_UNKNOWN;
    n.age = age;

    return n;
}


static void
hear(int64_t limit, int64_t remaining, int64_t reset, uint64_t age,
    uint64_t late, uint64_t now)
{
    llm_target_news_t  n;

    n = news_of(limit, remaining, reset, age);
    llm_target_heard(tg, one, &conf, &n, late, now);
}


static void
hear_cool(int64_t ms, uint64_t late, uint64_t now)
{
    llm_target_news_t  n;

    n = news_of(-1, -1, -1, 0);
    n.cool = ms;
    llm_target_heard(tg, one, &conf, &n, late, now);
}


static void
told(llm_target_call_t *c, int64_t limit, int64_t remaining, int64_t reset,
    uint64_t now)
{
    llm_target_limit_t  l;

    l.limit = limit;
    l.remaining = remaining;
    l.reset = reset;

    llm_target_told(tg, one, &conf, c, &l, NULL, now);
}


static int
tell(llm_target_call_t *c, int64_t limit, int64_t remaining, uint64_t now,
    llm_target_news_t *n)
{
    llm_target_limit_t  l, none;

    none = news_of(0, 0, 0, 0).tokens;

    l.limit = limit;
    l.remaining = remaining;
    l.reset = 1000;

    llm_target_told(tg, one, &conf, c, &l, &none, now);

    return llm_target_tell(tg, one, c, &l, &none, now, n);
}


static void
refused(llm_target_call_t *c, int64_t asked, uint64_t now)
{
    llm_target_end(tg, one, &conf, c, LLM_TARGET_LIMITED, asked,
                   LLM_TARGET_UNKNOWN, now);
}


static void
test_cool(void **state)
{
    uint64_t           ms;
    llm_target_call_t  c;

    (void) state;

    hear_cool(2000, 100, 10000);
    assert_int_equal(look(10000).until, 11900);
    assert_int_equal(look(10000).cooled, 1);

    assert_int_equal(begin(&c, 10001), LLM_AGAIN);
    assert_int_equal(wait_ms, 1899);

    /* never shorter, and a second one that is longer is the same */

    hear_cool(500, 0, 10100);
    assert_int_equal(look(10100).until, 11900);

    hear_cool(3000, 0, 10100);
    assert_int_equal(look(10100).until, 13100);
    assert_int_equal(look(10100).cooled, 1);

    assert_int_equal(begin(&c, 13100), LLM_OK);

    /* over before it came; more than a wait can be; nothing */

    hear_cool(2000, 2000, 20000);
    hear_cool(2000, UINT64_MAX, 20000);
    hear_cool(INT64_MAX, 0, 20000);
    hear_cool(LLM_TARGET_UNKNOWN, 0, 20000);
    assert_int_equal(look(20000).until, 0);

    /* a call that was under way and says no wait begins no other one */

    hear_cool(400, 0, 20000);
    refused(&c, LLM_TARGET_UNKNOWN, 20050);
    assert_int_equal(look(20050).until, 20400);

    /* a place that there is not */

    llm_target_heard(tg, LLM_TARGET_NONE, &conf,
                     &(llm_target_news_t) { .cool = 100 }, 0, 1);
    assert_int_equal(llm_target_look(tg, one, &conf, 0, 30000, &ms), LLM_OK);
}


static void
test_tell_cool(void **state)
{
    unsigned           i;
    llm_target_call_t  c[4];
    llm_target_news_t  n;

    (void) state;

    assert_int_equal(llm_target_tell_cool(tg, one, 1000, &n), 0);

    for (i = 0; i < 4; i++) {
        assert_int_equal(begin(&c[i], 1000), LLM_OK);
    }

    refused(&c[0], 2000, 1100);
    assert_int_equal(llm_target_tell_cool(tg, one, 1100, &n), 1);
    assert_int_equal(n.cool, 2000);
    assert_int_equal(n.requests.limit, LLM_TARGET_UNKNOWN);
    assert_int_equal(llm_target_tell_cool(tg, one, 1100, &n), 0);

    /* a little more is not told, much more is */

    refused(&c[1], 2000, 1299);
    assert_int_equal(llm_target_tell_cool(tg, one, 1299, &n), 0);
    refused(&c[2], 2000, 1300);
    assert_int_equal(llm_target_tell_cool(tg, one, 1300, &n), 1);

    /* nor what others have told */

    hear_cool(9000, 0, 1300);
    refused(&c[3], 9100, 1300);
    assert_int_equal(llm_target_tell_cool(tg, one, 1300, &n), 0);
}


static void
test_first_news(void **state)
{
    llm_target_call_t  c[10];
    unsigned           i;

    (void) state;

    conf.pace = 1;

    /* ten are started; six of them after the attempt that was told */

    for (i = 0; i < 10; i++) {
        assert_int_equal(begin(&c[i], i < 4 ? 10000 : 10500), LLM_OK);
    }

    hear(100, 50, 30000, 300, 10, 10600);

    /* 600 a minute is one in 100 ms: 310 ms give 3 */

    assert_in_range(look(10600).requests.remaining, 44, 47);
    assert_int_equal(look(10600).requests.limit, 100);
}


static void
test_newest_is_believed(void **state)
{
    llm_target_call_t  a, b;

    (void) state;

    conf.pace = 1;

    assert_int_equal(begin(&a, 10000), LLM_OK);
    told(&a, 600, 300, 30000, 10100);
    assert_in_range(look(10100).requests.remaining, 300, 302);

    /* the attempt of the news began before our own: nothing new, better or
       worse */

    hear(600, 500, 10000, 200, 0, 10150);
    hear(600, 10, 59000, 200, 0, 10150);
    hear(600, 10, 59000, 100, 60, 10150);
    assert_in_range(look(10150).requests.remaining, 300, 302);

    /* it began later: somebody has taken 100 */

    hear(600, 200, 40000, 20, 0, 10200);
    assert_in_range(look(10200).requests.remaining, 199, 202);

    /* our own answer, of a start before that one, says nothing any more */

    assert_int_equal(begin(&b, 10205), LLM_OK);
    hear(600, 150, 45000, 10, 0, 10250);
    told(&b, 600, 400, 20000, 10300);
    assert_in_range(look(10300).requests.remaining, 146, 152);

    /* without pacing nothing is heard */

    conf.pace = 0;
    hear(600, 5, 59000, 10, 0, 10400);
    assert_in_range(look(10400).requests.remaining, 146, 153);
}


static void
test_windowed_news(void **state)
{
    llm_target_call_t  c;

    (void) state;

    conf.pace = 1;
    conf.windowed = 1;

    /* it ended on the way */

    hear(100, 0, 30, 0, 30, 9000);
    assert_int_equal(look(9000).requests.limit, LLM_TARGET_UNKNOWN);

    assert_int_equal(begin(&c, 10000), LLM_OK);
    told(&c, 100, 40, 5000, 10100);
    assert_int_equal(look(10100).requests.remaining, 40);

    hear(100, 0, 4800, 10, 0, 10300);
    assert_int_equal(begin(&c, 10310), LLM_AGAIN);
    assert_in_range(wait_ms, 4700, 4800);

    /* the window has begun anew: what is from before it is over */

    assert_int_equal(look(15100).requests.remaining, 100);
    hear(100, 0, 30, 100, 40, 15110);
    hear(100, 0, 5000, 300, 0, 15110);
    assert_int_equal(look(15110).requests.remaining, 100);
}


static void
test_nonsense(void **state)
{
    llm_target_call_t  c;

    (void) state;

    conf.pace = 1;

    hear(-1, 5, 5, 0, 0, 10000);
    hear(0, 0, 0, 0, 0, 10000);
    hear(100, -1, 0, 0, 0, 10000);
    hear(100, 10, 0, UINT64_MAX, 0, 10000);
    hear(100, 10, 0, 0, UINT64_MAX, 10000);
    hear(100, 10, 0, 9000, 9000, 10000);
    assert_int_equal(look(10000).requests.limit, LLM_TARGET_UNKNOWN);

    hear(INT64_MAX, INT64_MAX, INT64_MAX, 5, 5, 10000);
    hear(INT64_MAX, 0, INT64_MAX, 1, 0, 10001);
    hear(1, INT64_MAX, INT64_MIN, 0, 0, 10002);
    assert_int_equal(look(10002).requests.limit, 1);

    /* longer ago than is remembered */

    assert_int_equal(begin(&c, 100000), LLM_OK);
    told(&c, 100, 90, 6000, 100001);
    assert_int_equal(begin(&c, 110000), LLM_OK);
    hear(100, 0, 60000, 9000, 0, 110000);
    assert_true(look(110000).requests.remaining > 90);
}


static void
test_tell(void **state)
{
    llm_target_call_t  c[8];
    llm_target_news_t  n;
    unsigned           i;

    (void) state;

    conf.pace = 1;

    for (i = 0; i < 8; i++) {
        assert_int_equal(begin(&c[i], 1000 + i), LLM_OK);
    }

    assert_int_equal(tell(&c[1], 100, 90, 1050, &n), 1);
    assert_int_equal(n.requests.remaining, 90);
    assert_int_equal(n.tokens.limit, LLM_TARGET_UNKNOWN);
    assert_int_equal(n.cool, LLM_TARGET_UNKNOWN);
    assert_int_equal(n.age, 49);

    /* overtaken; too soon; soon, but there is much less, with what was
       started since */

    assert_int_equal(n.requests_since, 6);
    assert_int_equal(tell(&c[0], 100, 91, 1300, &n), 0);
    assert_int_equal(tell(&c[2], 100, 88, 1249, &n), 0);
    assert_int_equal(tell(&c[3], 100, 78, 1249, &n), 1);
    assert_int_equal(n.requests_since, 4);
    assert_int_equal(tell(&c[4], 100, 69, 1300, &n), 0);
    assert_int_equal(tell(&c[5], 100, 67, 1300, &n), 0);
    assert_int_equal(tell(&c[6], 100, 60, 1300, &n), 1);

    /* not all the time */

    assert_int_equal(tell(&c[7], 100, 0, 1319, &n), 0);
    assert_int_equal(llm_target_tell(tg, one, &c[7],
                                     &(llm_target_limit_t) { 100, 0, 1 },
                                     &n.tokens, 1320, &n), 1);
}


/* two gateways that want too much of a window, for three minutes */

typedef struct {
    unsigned            gateway;
    unsigned            sent;
    uint64_t            arrives;
    uint64_t            answers;
    int                 refused;
    llm_target_limit_t  told;
    llm_target_call_t   call;
} flight_t;


typedef struct {
    unsigned            from;
    uint64_t            at;
    uint64_t            sent;
    llm_target_news_t   news;
} letter_t;


typedef struct {
    llm_targets_t      *gateway[2];
    void               *mem[2];
    unsigned            queue[2];
    uint64_t            next[2];
    flight_t            flight[FLYING];
    unsigned            flights;
    letter_t            letter[LETTERS];
    unsigned            letters;
    int                 share;
    int64_t             left;

    unsigned            served;
    unsigned            limited;
    unsigned            posted;
} fleet_t;


static fleet_t  fleet;


static void
fleet_post(unsigned from, const llm_target_news_t *n, uint64_t now)
{
    letter_t  *l;

    assert_true(fleet.letters < LETTERS);

    l = &fleet.letter[fleet.letters++];
    l->from = from;
    l->sent = now;
    l->at = now + 1 + any(3);
    l->news = *n;

    fleet.posted++;
}


static void
fleet_read(uint64_t now)
{
    unsigned  i;

    for (i = 0; i < fleet.letters; i++) {

        if (fleet.letter[i].at <= now) {
            llm_target_heard(fleet.gateway[!fleet.letter[i].from], 0, &conf,
                             &fleet.letter[i].news,
                             now - fleet.letter[i].sent, now);

            fleet.letter[i--] = fleet.letter[--fleet.letters];
        }
    }
}


static void
fleet_start(unsigned n, uint64_t now)
{
    uint64_t   wait, latency;
    flight_t  *f;

    while (fleet.queue[n] != 0 && fleet.next[n] <= now) {
        assert_true(fleet.flights < FLYING);
        f = &fleet.flight[fleet.flights];

        if (llm_target_start(fleet.gateway[n], 0, &conf, n, 0, 0, now, &wait,
                             &f->call)
            != LLM_OK)
        {
            fleet.next[n] = now + wait;
            return;
        }

        latency = 5 + any(296);

        f->gateway = n;
        f->sent = 1;
        f->arrives = now + 1 + any(latency / 2 + 1);
        f->answers = now + latency > f->arrives ? now + latency : f->arrives;

        fleet.flights++;
        fleet.queue[n]--;
    }
}


static void
fleet_answer(flight_t *f, uint64_t now)
{
    llm_targets_t       *t;
    llm_target_news_t    n;
    llm_target_limit_t   none;

    t = fleet.gateway[f->gateway];
    none = news_of(0, 0, 0, 0).tokens;

    llm_target_told(t, 0, &conf, &f->call, &f->told, &none, now);

    if (llm_target_tell(t, 0, &f->call, &f->told, &none, now, &n)
        && fleet.share)
    {
        fleet_post(f->gateway, &n, now);
    }

    llm_target_end(t, 0, &conf, &f->call,
                   f->refused ? LLM_TARGET_LIMITED : LLM_TARGET_GOOD,
                   f->refused ? f->told.reset : LLM_TARGET_UNKNOWN,
                   LLM_TARGET_UNKNOWN, now);

    if (f->refused) {
        fleet.limited++;

        if (llm_target_tell_cool(t, 0, now, &n) && fleet.share) {
            fleet_post(f->gateway, &n, now);
        }

    } else {
        fleet.served++;
    }
}


static void
fleet_fly(uint64_t now)
{
    unsigned   i;
    flight_t  *f;

    for (i = 0; i < fleet.flights; i++) {
        f = &fleet.flight[i];

        if (f->sent && f->arrives <= now) {
            f->sent = 0;
            f->refused = fleet.left == 0;
            fleet.left -= !f->refused;
            f->told.limit = RATE;
            f->told.remaining = fleet.left;
            f->told.reset = (int64_t) (WINDOW - now % WINDOW);
        }

        if (!f->sent && f->answers <= now) {
            fleet_answer(f, now);
            fleet.flight[i--] = fleet.flight[--fleet.flights];
        }
    }
}


static void
fleet_play(uint64_t start, int share, unsigned percent, unsigned each)
{
    unsigned  i, k;
    uint64_t  now;

    memset(&fleet, 0, sizeof(fleet_t));
    seed = start;
    fleet.share = share;
    fleet.left = RATE;

    for (i = 0; i < 2; i++) {
        fleet.gateway[i] = make(&fleet.mem[i], SIZE);
        assert_int_equal(find(fleet.gateway[i], "p:m"), 0);
    }

    for (now = 1000; now < 3 * WINDOW - 1; now++) {

        if (now % WINDOW == 0) {
            fleet.left = RATE;
        }

        if (any((uint64_t) WINDOW * 100 * each) < (uint64_t) RATE * percent) {
            k = (unsigned) any(2);
            fleet.queue[k] += each;
        }

        for (i = 0; i < 2; i++) {
            fleet_start((i + (unsigned) now) % 2, now);
        }

        fleet_fly(now);
        fleet_read(now);
    }

    for (i = 0; i < 2; i++) {
        free(fleet.mem[i]);
    }
}


static void
test_two_gateways(void **state)
{
    unsigned  i, k, alone, shared, served;

    static const unsigned  each[] = { 1, 20 };

    (void) state;

    conf.consecutive = 0;
    conf.ratio = 0;
    conf.pace = 1;
    conf.windowed = 1;
    conf.margin = 3;

    for (k = 0; k < 2; k++) {
        alone = 0;
        shared = 0;
        served = 0;

        for (i = 1; i <= 6; i++) {
            fleet_play(i * 7919, 0, 150, each[k]);
            alone += fleet.limited;

            fleet_play(i * 7919, 1, 150, each[k]);
            shared += fleet.limited;
            served += fleet.served;

            assert_true(fleet.posted < 500);
        }

        assert_true(served * 100 >= 6 * 3 * RATE * 93);
        assert_true(shared * 2 < alone);
    }
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        unit(cool),
        unit(tell_cool),
        unit(first_news),
        unit(newest_is_believed),
        unit(windowed_news),
        unit(nonsense),
        unit(tell),
        unit(two_gateways)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
