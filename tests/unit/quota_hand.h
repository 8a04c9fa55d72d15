
/*
 * Copyright (C) the ngx-llm authors
 *
 * Batches written by hand, for the script in a real Redis.
 */


#ifndef _QUOTA_HAND_H_INCLUDED_
#define _QUOTA_HAND_H_INCLUDED_


#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <time.h>
#include <cmocka.h>

#include "quota_redis.h"


#define DAY  86400


/* a name as the wire has it */

typedef struct {
    const char  *name;
    int64_t      rpm, burst, tpm, burst_tokens, rpd, tpd, budget, month;
    int64_t      slots, want, held, hash, repair;
    int64_t      day, mon, bucket[2], tally[3];
    int64_t      old_day, old_mon, old[3];
    int64_t      prefetch[3];
    int64_t      known[8];
} name_t;


typedef struct {
    int64_t      a, b, requests, tokens, money;
} ask_t;


/* what a reply says, head first */

typedef struct {
    int          n;
    int64_t      v[QUOTA_NUMBERS];
} reply_t;

enum { NOW = 0, SEQ, STATUS, ALIVE, EPOCH, LAPSED, NAMES, ASKS, HINTS, HEAD };
enum { SHARE = 0, CLAIM, TIGHT, REQUESTS, TOKENS, DAYS, D_REQUESTS, D_TOKENS,
       D_MONEY, MONTHS, M_REQUESTS, M_TOKENS, M_MONEY, AHEAD, NAME };


static redisContext  *redis;
static reply_t        rp;
static char           raw[65536];
static int64_t        today, tomonth;
static int64_t        epoch;


static inline int64_t
month_of(time_t t)
{
    struct tm  tm;

    gmtime_r(&t, &tm);

    return (tm.tm_year - 70) * 12 + tm.tm_mon + 1;
}


static inline int
group_setup(void **state)
{
    (void) state;

    redis = quota_start();

    return redis == NULL;
}


static inline int
group_teardown(void **state)
{
    (void) state;

    redisFree(redis);
    quota_stop();

    return 0;
}


static inline int
setup(void **state)
{
    time_t  t;

    (void) state;

    t = time(NULL);
    today = t / DAY + 1;
    tomonth = month_of(t);
    epoch = 0;

    (void) quota_command(redis, "CONFIG SET maxmemory 0");
    (void) quota_command(redis, "FLUSHALL");

    return 0;
}


static inline name_t
name(const char *s)
{
    name_t  n;

    memset(&n, 0, sizeof(name_t));

    n.name = s;
    n.day = today;
    n.mon = tomonth;
    n.hash = s[0] * 256 + s[1];

    return n;
}


/* a command with its arguments, to be freed one by one */

static inline int
command(char **arg, const char *gateway, int64_t seq, const name_t *names,
    int nnames, const ask_t *asks, int nasks)
{
    int             i, k, n;
    char           *p;
    const int64_t  *v;

    n = 0;
    (void) !asprintf(&arg[n++], "EVALSHA");
    (void) !asprintf(&arg[n++], "%s", quota_sha);
    (void) !asprintf(&arg[n++], "%d", 4 + 2 * nnames);
    (void) !asprintf(&arg[n++], "{llm}:g");
    (void) !asprintf(&arg[n++], "{llm}:epoch");
    (void) !asprintf(&arg[n++], "{llm}:b:%s", gateway);
    (void) !asprintf(&arg[n++], "{llm}:w");

    for (i = 0; i < nnames; i++) {
        (void) !asprintf(&arg[n++], "{llm}:l:%s", names[i].name);
        (void) !asprintf(&arg[n++], "{llm}:s:%s", names[i].name);
    }

    (void) !asprintf(&arg[n++], "%" PRId64 " %" PRId64 " 2 %" PRId64 " %"
                     PRId64 " 3600000 7200000 %d %d", seq, epoch, today,
                     tomonth, nnames, nasks);
    (void) !asprintf(&arg[n++], "%s", gateway);

    for (i = 0; i < nnames; i++) {
        arg[n] = calloc(1, 1024);
        v = &names[i].rpm;

        for (k = 0, p = arg[n]; k < 36; k++) {
            p += sprintf(p, "%s%" PRId64, k ? " " : "", v[k]);
        }

        n++;
    }

    for (i = 0; i < nasks; i++) {
        (void) !asprintf(&arg[n++], "%" PRId64 " %" PRId64 " %" PRId64 " %"
                         PRId64 " %" PRId64, asks[i].a, asks[i].b,
                         asks[i].requests, asks[i].tokens, asks[i].money);
    }

    return n;
}


static inline int
batch_on(redisContext *c, const char *gateway, int64_t seq,
    const name_t *names, int nnames, const ask_t *asks, int nasks)
{
    int          n;
    char        *arg[QUOTA_ARGS], *p, *end;
    redisReply  *r;

    n = command(arg, gateway, seq, names, nnames, asks, nasks);
    r = redisCommandArgv(c, n, (const char **) arg, NULL);

    while (n != 0) {
        free(arg[--n]);
    }

    if (r == NULL || r->type != REDIS_REPLY_STRING) {
        fprintf(stderr, "%s\n", r != NULL ? r->str : c->errstr);
        freeReplyObject(r);
        return 1;
    }

    snprintf(raw, sizeof(raw), "%s", r->str);
    freeReplyObject(r);

    for (rp.n = 0, p = raw; *p != '\0' && rp.n < QUOTA_NUMBERS; p = end) {
        rp.v[rp.n++] = strtoll(p, &end, 10);
    }

    return 0;
}


static inline void
batch(const char *gateway, int64_t seq, const name_t *names, int nnames,
    const ask_t *asks, int nasks)
{
    assert_int_equal(batch_on(redis, gateway, seq, names, nnames, asks,
                              nasks), 0);
}


static inline int64_t
of(int i, int field)
{
    return rp.v[HEAD + i * NAME + field];
}


/* the i-th ask's numbers: a refusal has six, the others one */

static inline const int64_t *
verdict(int i)
{
    const int64_t  *v;

    v = &rp.v[HEAD + rp.v[NAMES] * NAME];

    while (i-- != 0) {
        v += *v == 1 ? 6 : 1;
    }

    return v;
}


#endif /* _QUOTA_HAND_H_INCLUDED_ */
