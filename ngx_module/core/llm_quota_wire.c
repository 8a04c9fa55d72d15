
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch as the script quota.lua takes it, and its reply: numbers in
 * decimal, separated by single blanks.
 */


#include "core/llm_quota_private.h"

#include <string.h>


/* a head or a name is at most 40 numbers of 20 digits */

#define LLM_QUOTA_TEXT  1024


typedef struct {
    size_t                len;
    char                  data[LLM_QUOTA_TEXT];
} llm_quota_text_t;


typedef struct {
    const char           *p;
    const char           *end;
    int                   failed;
} llm_quota_scan_t;


static void llm_quota_write_keys(llm_ledger_t *lg,
    const llm_quota_batch_t *b, const char *gateway, size_t size,
    llm_quota_sink_pt sink, void *data);
static void llm_quota_put_head(llm_quota_text_t *t, const llm_ledger_t *lg,
    const llm_quota_batch_t *b);
static void llm_quota_put_ask(llm_quota_text_t *t,
    const llm_quota_ask_t *ask);
static void llm_quota_put(llm_quota_text_t *t, int64_t n);
static void llm_quota_put_u(llm_quota_text_t *t, uint64_t n);
static void llm_quota_put_digits(llm_quota_text_t *t, uint64_t n);
static void llm_quota_put_amount(llm_quota_text_t *t, const llm_amount_t *a);
static void llm_quota_put_tally(llm_quota_text_t *t, const llm_tally_t *y);
static void llm_quota_put_name(llm_quota_text_t *t,
    const llm_ledger_node_t *n, const llm_quota_name_t *nm);
static size_t llm_quota_key(char *p, const char *kind,
    const llm_ledger_node_t *n);
static int64_t llm_quota_get(llm_quota_scan_t *s, int64_t low, int64_t high);
static void llm_quota_get_tally(llm_quota_scan_t *s, llm_tally_t *y);
static void llm_quota_get_name(llm_quota_scan_t *s, llm_quota_told_t *told,
    int wish);
static void llm_quota_get_answer(llm_quota_scan_t *s, llm_quota_answer_t *a);


void
llm_quota_write(llm_ledger_t *lg, const llm_quota_batch_t *b,
    const char *gateway, llm_quota_sink_pt sink, void *data, unsigned *nkeys,
    unsigned *nargs)
{
    size_t            size;
    uint32_t          i;
    llm_quota_text_t  t;

    size = strlen(gateway);

    if (size > LLM_QUOTA_GATEWAY) {
        size = LLM_QUOTA_GATEWAY;
    }

    llm_quota_write_keys(lg, b, gateway, size, sink, data);

    t.len = 0;
    llm_quota_put_head(&t, lg, b);
    sink(data, t.data, t.len);

    sink(data, gateway, size);

    for (i = 0; i < b->names; i++) {
        t.len = 0;
        llm_quota_put_name(&t, llm_ledger_node(lg, b->name[i].node),
                           &b->name[i]);
        sink(data, t.data, t.len);
    }

    for (i = 0; i < b->asks; i++) {
        t.len = 0;
        llm_quota_put_ask(&t, &b->ask[i]);
        sink(data, t.data, t.len);
    }

    *nkeys = 4 + 2 * b->names;
    *nargs = 2 + b->names + b->asks;
}


/* those of all gateways, then two of each name */

static void
llm_quota_write_keys(llm_ledger_t *lg, const llm_quota_batch_t *b,
    const char *gateway, size_t size, llm_quota_sink_pt sink, void *data)
{
    char                key[LLM_LEDGER_NAME + LLM_QUOTA_GATEWAY + 16];
    size_t              len;
    uint32_t            i;
    llm_ledger_node_t  *n;

    sink(data, LLM_QUOTA_PREFIX "g", sizeof(LLM_QUOTA_PREFIX));
    sink(data, LLM_QUOTA_PREFIX "epoch", sizeof(LLM_QUOTA_PREFIX) + 4);

    len = sizeof(LLM_QUOTA_PREFIX "b:") - 1;
    memcpy(key, LLM_QUOTA_PREFIX "b:", len);
    memcpy(key + len, gateway, size);
    sink(data, key, len + size);

    sink(data, LLM_QUOTA_PREFIX "w", sizeof(LLM_QUOTA_PREFIX));

    for (i = 0; i < b->names; i++) {
        n = llm_ledger_node(lg, b->name[i].node);

        len = llm_quota_key(key, LLM_QUOTA_PREFIX "l:", n);
        sink(data, key, len);

        len = llm_quota_key(key, LLM_QUOTA_PREFIX "s:", n);
        sink(data, key, len);
    }
}


/*
 * Everything is bounded and nothing is left over: what is not exactly a reply
 * to this batch is no reply.
 */

int
llm_quota_read(const llm_quota_batch_t *b, const char *p, size_t len,
    llm_quota_reply_t *rp)
{
    uint32_t          i;
    llm_quota_scan_t  s;

    s.p = p;
    s.end = p + len;
    s.failed = 0;

    rp->now = (uint64_t) llm_quota_get(&s, 0, LLM_QUOTA_MOST);
    rp->seq = (uint64_t) llm_quota_get(&s, 0, LLM_QUOTA_MOST);
    rp->status = (uint32_t) llm_quota_get(&s, 0, LLM_QUOTA_LATE);
    rp->gateways = (uint32_t) llm_quota_get(&s, 1, INT32_MAX);
    rp->epoch = (uint64_t) llm_quota_get(&s, 1, LLM_QUOTA_MOST);
    rp->lapsed = (uint32_t) llm_quota_get(&s, 0, 1);
    rp->names = (uint32_t) llm_quota_get(&s, 0, LLM_QUOTA_NAMES);
    rp->asks = (uint32_t) llm_quota_get(&s, 0, LLM_QUOTA_ASKS);
    rp->hints = (uint32_t) llm_quota_get(&s, 0, LLM_QUOTA_HINTS);

    if (s.failed) {
        return LLM_ERROR;
    }

    if (rp->status == LLM_QUOTA_DONE) {

        if (rp->seq != b->seq || rp->names != b->names
            || rp->asks != b->asks)
        {
            return LLM_ERROR;
        }

    } else if (rp->names != 0 || rp->asks != 0 || rp->hints != 0
               || (rp->status == LLM_QUOTA_FORGOT && rp->epoch == b->epoch)
               || (rp->status == LLM_QUOTA_LATE && rp->seq <= b->seq))
    {
        return LLM_ERROR;
    }

    for (i = 0; i < rp->names; i++) {
        llm_quota_get_name(&s, &rp->name[i], b->name[i].wish != 0);
    }

    for (i = 0; i < rp->asks; i++) {
        llm_quota_get_answer(&s, &rp->ask[i]);
    }

    for (i = 0; i < rp->hints; i++) {
        rp->hint[i] = (uint32_t) llm_quota_get(&s, 0, UINT32_MAX);
    }

    return s.failed || s.p != s.end ? LLM_ERROR : LLM_OK;
}


static void
llm_quota_put_head(llm_quota_text_t *t, const llm_ledger_t *lg,
    const llm_quota_batch_t *b)
{
    llm_now_t  now;

    now.ms = 0;
    now.wall = b->wall;

    llm_quota_put_u(t, b->seq);
    llm_quota_put_u(t, b->epoch);
    llm_quota_put_u(t, lg->conf.gateways);
    llm_quota_put_u(t, llm_meter_day(b->wall));
    llm_quota_put_u(t, llm_meter_month(b->wall));
    llm_quota_put(t, llm_meter_day_left(&now));
    llm_quota_put(t, llm_meter_month_left(&now));
    llm_quota_put_u(t, b->names);
    llm_quota_put_u(t, b->asks);
}


static void
llm_quota_put_ask(llm_quota_text_t *t, const llm_quota_ask_t *ask)
{
    uint32_t  k;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
        llm_quota_put_u(t, ask->name[k] == LLM_LEDGER_NONE
                           ? 0 : ask->name[k] + 1);
    }

    llm_quota_put_amount(t, &ask->need);

    if (ask->background) {
        llm_quota_put_u(t, 1);
    }
}


static void
llm_quota_put_name(llm_quota_text_t *t, const llm_ledger_node_t *n,
    const llm_quota_name_t *nm)
{
    llm_tally_t         none;
    const llm_rates_t  *rt;

    rt = &n->rates;

    llm_quota_put_u(t, rt->rpm);
    llm_quota_put_u(t, rt->burst);
    llm_quota_put_u(t, rt->tpm);
    llm_quota_put_u(t, rt->burst_tokens);
    llm_quota_put_u(t, rt->rpd);
    llm_quota_put_u(t, rt->tpd);
    llm_quota_put_u(t, rt->budget);
    llm_quota_put_u(t, rt->month != 0);

    llm_quota_put_u(t, n->concurrency);
    llm_quota_put_u(t, nm->share);
    llm_quota_put_u(t, nm->held);
    llm_quota_put_u(t, n->hash);
    llm_quota_put_u(t, nm->repair);

    llm_quota_put_u(t, nm->day);
    llm_quota_put_u(t, nm->month);
    llm_quota_put(t, nm->bucket.requests);
    llm_quota_put(t, nm->bucket.tokens);
    llm_quota_put_amount(t, &nm->tally);

    llm_quota_put_u(t, nm->old_day);
    llm_quota_put_u(t, nm->old_month);
    llm_quota_put_amount(t, &nm->old);

    llm_quota_put_amount(t, &nm->prefetch);

    if (nm->repair) {
        llm_quota_put_tally(t, &n->quota.fleet_day);
        llm_quota_put_tally(t, &n->quota.fleet_month);

    } else if (nm->wish) {
        memset(&none, 0, sizeof(llm_tally_t));

        llm_quota_put_tally(t, &none);
        llm_quota_put_tally(t, &none);
    }

    if (nm->wish) {
        llm_quota_put_u(t, nm->wish);
        llm_quota_put_u(t, nm->press);
    }
}


static void
llm_quota_put_tally(llm_quota_text_t *t, const llm_tally_t *y)
{
    llm_quota_put_u(t, y->period);
    llm_quota_put(t, y->requests);
    llm_quota_put(t, y->tokens);
    llm_quota_put(t, y->money);
}


static void
llm_quota_put_amount(llm_quota_text_t *t, const llm_amount_t *a)
{
    llm_quota_put(t, a->requests);
    llm_quota_put(t, a->tokens);
    llm_quota_put(t, a->money);
}


static void
llm_quota_put(llm_quota_text_t *t, int64_t n)
{
    if (n >= 0) {
        llm_quota_put_u(t, (uint64_t) n);
        return;
    }

    if (t->len != 0) {
        t->data[t->len++] = ' ';
    }

    t->data[t->len++] = '-';

    n = llm_quota_max(n, -LLM_QUOTA_MOST);
    llm_quota_put_digits(t, (uint64_t) -n);
}


static void
llm_quota_put_u(llm_quota_text_t *t, uint64_t n)
{
    if (t->len != 0) {
        t->data[t->len++] = ' ';
    }

    llm_quota_put_digits(t, n < (uint64_t) LLM_QUOTA_MOST
                            ? n : (uint64_t) LLM_QUOTA_MOST);
}


static void
llm_quota_put_digits(llm_quota_text_t *t, uint64_t n)
{
    char    digit[20];
    size_t  i;

    i = sizeof(digit);

    do {
        digit[--i] = (char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    memcpy(t->data + t->len, digit + i, sizeof(digit) - i);
    t->len += sizeof(digit) - i;
}


static size_t
llm_quota_key(char *p, const char *kind, const llm_ledger_node_t *n)
{
    size_t  len;

    len = strlen(kind);

    memcpy(p, kind, len);
    memcpy(p + len, n->name, n->len);

    return len + n->len;
}


/* a number within these bounds and the one blank after it, if any follows */

static int64_t
llm_quota_get(llm_quota_scan_t *s, int64_t low, int64_t high)
{
    int      minus;
    int64_t  n;

    if (s->failed) {
        return low;
    }

    minus = s->p < s->end && *s->p == '-';

    if (minus) {
        s->p++;
    }

    if (s->p == s->end || *s->p < '0' || *s->p > '9') {
        goto failed;
    }

    n = 0;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {

        n = n * 10 + (*s->p++ - '0');

        if (n > LLM_QUOTA_MOST) {
            goto failed;
        }
    }

    if (s->p < s->end && (*s->p++ != ' ' || s->p == s->end)) {
        goto failed;
    }

    n = minus ? -n : n;

    if (n >= low && n <= high) {
        return n;
    }

failed:

    s->failed = 1;

    return low;
}


static void
llm_quota_get_name(llm_quota_scan_t *s, llm_quota_told_t *told, int wish)
{
    told->share = (uint32_t) llm_quota_get(s, 0, UINT32_MAX);
    told->claim = (uint32_t) llm_quota_get(s, 0, UINT32_MAX);
    told->tight = (uint32_t) llm_quota_get(s, 0, 1);
    told->requests = llm_quota_get(s, 0, LLM_QUOTA_MOST);
    told->tokens = llm_quota_get(s, 0, LLM_QUOTA_MOST);

    llm_quota_get_tally(s, &told->day);
    llm_quota_get_tally(s, &told->month);

    told->ahead = (uint32_t) llm_quota_get(s, 0, 1);
    told->spare = wish ? (uint32_t) llm_quota_get(s, 0, UINT32_MAX) : 0;
}


static void
llm_quota_get_tally(llm_quota_scan_t *s, llm_tally_t *y)
{
    y->period = (uint32_t) llm_quota_get(s, 0, UINT32_MAX);
    y->requests = llm_quota_get(s, 0, LLM_QUOTA_MOST);
    y->tokens = llm_quota_get(s, 0, LLM_QUOTA_MOST);
    y->money = llm_quota_get(s, 0, LLM_QUOTA_MOST);
}


static void
llm_quota_get_answer(llm_quota_scan_t *s, llm_quota_answer_t *a)
{
    memset(a, 0, sizeof(llm_quota_answer_t));

    a->verdict = (uint32_t) llm_quota_get(s, 0, LLM_QUOTA_UNJUDGED);

    if (a->verdict != LLM_QUOTA_REFUSED) {
        return;
    }

    a->index = (uint32_t) llm_quota_get(s, 0, LLM_LEDGER_LIMITS - 1);
    a->refusal.why = (llm_why_e) llm_quota_get(s, LLM_WHY_REQUESTS,
                                               LLM_WHY_BUDGET);
    a->refusal.wait_ms = llm_quota_get(s, -1, LLM_QUOTA_MOST);
    a->refusal.limit = (uint64_t) llm_quota_get(s, 0, LLM_QUOTA_MOST);
    a->refusal.used = (uint64_t) llm_quota_get(s, 0, LLM_QUOTA_MOST);
}
