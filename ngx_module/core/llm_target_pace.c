
/*
 * Copyright (C) the ngx-llm authors
 *
 * A provider's limit, foreseen.  The model is a bucket like the provider's:
 * it fills at the rate that the headers imply and each start takes from it at
 * once.  What an answer tells held when its attempt arrived there, a while
 * ago, and by now others have been started.  So each start notes what the
 * model foresaw just after it; the answer is compared with that note, and the
 * difference corrects the model.  Starts after it are in the model already
 * and are not counted twice, however late an answer comes; of answers that
 * overtake each other the one with the latest start is believed.  Several
 * answers tell of the same difference: a note is read with all corrections
 * that were made since.
 *
 * A difference is what others took (gateways with the same key).  Its average
 * goes into the model as a drain, and while others are about, as many
 * requests as are on their way from here may be on their way from there.
 */


#include "core/llm_target_private.h"


#define LLM_TARGET_TAU      5000            /* ms, average of the others */
#define LLM_TARGET_FADE     2000            /* ms, and how long it holds */
#define LLM_TARGET_STEP     100             /* ms */
#define LLM_TARGET_FEW      50              /* 1/50 of the rate is nobody */
#define LLM_TARGET_SILENCE  2000            /* ms without a start */
#define LLM_TARGET_SURE     64              /* units gone, to be sure */
#define LLM_TARGET_DEAF     600000          /* ms, then it is forgotten */
#define LLM_TARGET_WAIT     3600000


static void llm_target_pace_rate(llm_target_pace_t *p,
    const llm_target_limit_t *told, uint64_t now);
static int64_t llm_target_pace_behind(const llm_target_pace_t *p,
    const llm_target_share_t *s, int64_t delta);


/* parts on their way from here, of which nothing has been heard */

static inline int64_t
llm_target_pace_air(const llm_target_pace_t *p)
{
    return llm_target_pace_clamp(p->flying, 0, p->limit) * LLM_TARGET_MICRO;
}


static inline int
llm_target_pace_shared(const llm_target_pace_t *p)
{
    return p->others > p->rate / LLM_TARGET_FEW;
}


/* units taken in the last moment: one to two steps */

static int64_t
llm_target_pace_recent(const llm_target_pace_t *p, uint64_t now)
{
    int64_t   n;
    uint64_t  step;

    step = now / LLM_TARGET_STEP;

    if (step > p->step + 1) {
        return 0;
    }

    n = p->recent[p->step & 1];
    n += step <= p->step ? p->recent[(p->step + 1) & 1] : 0;

    return n;
}


/*
 * What the last telling may not have seen: what has just been started here,
 * and of others as much as is on its way from here, beyond the drain of their
 * average.
 */

static int64_t
llm_target_pace_unseen(const llm_target_pace_t *p, uint64_t now)
{
    int64_t  air, own, others;

    air = llm_target_pace_air(p);

    own = llm_target_pace_clamp(llm_target_pace_recent(p, now), 0, p->limit);
    own *= LLM_TARGET_MICRO;

    others = llm_target_pace_shared(p) ? air - p->drained : 0;

    return llm_target_pace_clamp(own > others ? own : others,
                                 0, llm_target_pace_full(p) / 2);
}


/*
 * After a silence others may have emptied it.  Until an answer has told, no
 * more is started than the margin and what comes in meanwhile.
 */

static int
llm_target_pace_waking(const llm_target_pace_t *p, int64_t margin,
    uint64_t now)
{
    int64_t   out;
    uint64_t  ms;

    if (p->woken == 0 || p->taken == p->woken_taken) {
        return 0;
    }

    ms = now > p->woken ? now - p->woken : 0;
    ms = ms < LLM_TARGET_MINUTE ? ms : LLM_TARGET_MINUTE;

    out = llm_target_pace_clamp((int64_t) (p->taken - p->woken_taken), 0,
                                p->limit);

    return (out - margin) * LLM_TARGET_MICRO > p->rate * (int64_t) ms;
}


uint64_t
llm_target_pace_wait(llm_target_pace_t *p, int64_t cost, int64_t margin,
    uint64_t now)
{
    int64_t   need, full;
    uint64_t  wait;

    llm_target_pace_roll(p, now);

    if (p->limit == 0) {
        return 0;
    }

    full = llm_target_pace_full(p);

    cost = llm_target_pace_clamp(cost, 0, p->limit);
    margin = llm_target_pace_clamp(margin, 0, p->limit);
    need = (cost + margin) * LLM_TARGET_MICRO;

    /* what is more than all may start when all is there */

    need = need < full ? need : full;

    if (p->level < need) {

        if (p->windowed) {
            wait = p->until > now ? p->until - now : 1;

        } else {
            wait = (uint64_t) ((need - p->level - 1) / p->rate) + 1;
        }

        return wait < LLM_TARGET_WAIT ? wait : LLM_TARGET_WAIT;
    }

    /* is it there?  An answer will tell, or time */

    need += llm_target_pace_unseen(p, now);
    need = need < full ? need : full;

    if (p->level < need || llm_target_pace_waking(p, margin, now)) {
        return LLM_TARGET_STEP;
    }

    return 0;
}


static void
llm_target_pace_note(llm_target_pace_t *p, int64_t cost, uint64_t now)
{
    uint64_t  step;

    step = now / LLM_TARGET_STEP;

    if (step > p->step) {

        if (step > p->step + 1) {
            p->recent[(step + 1) & 1] = 0;
        }

        p->recent[step & 1] = 0;
        p->step = step;
    }

    cost += p->recent[p->step & 1];
    p->recent[p->step & 1] = cost < LLM_TARGET_LIMIT ? cost
                                                     : LLM_TARGET_LIMIT;
}


void
llm_target_pace_take(llm_target_pace_t *p, llm_target_share_t *s,
    int64_t cost, uint64_t now)
{
    int64_t  full;

    llm_target_pace_roll(p, now);

    if (now >= p->last + LLM_TARGET_SILENCE && llm_target_pace_shared(p)) {
        p->woken = now;
        p->woken_taken = p->taken;
    }

    llm_target_pace_mark(p, now);
    p->last = now > p->last ? now : p->last;

    cost = llm_target_pace_clamp(cost, 0, LLM_TARGET_LIMIT);
    p->taken += (uint64_t) cost;
    s->recent = llm_target_pace_recent(p, now);
    p->flying = llm_target_pace_clamp(p->flying + cost, 0,
                                      100 * LLM_TARGET_LIMIT);
    llm_target_pace_note(p, cost, now);

    if (p->limit != 0) {
        full = llm_target_pace_full(p);
        p->level = llm_target_pace_clamp(p->level - cost * LLM_TARGET_MICRO,
                                         -full, full);
    }

    s->cost = cost;
    s->level = p->level;
    s->corrected = p->corrected;
    s->taken = p->taken;
    s->known = p->limit != 0;
}


void
llm_target_pace_told(llm_target_pace_t *p, const llm_target_call_t *call,
    const llm_target_share_t *s, const llm_target_limit_t *told,
    unsigned windowed, uint64_t now)
{
    int       known;
    int64_t   delta, full, remaining;

    if (told->limit <= 0 || told->remaining < 0) {
        return;
    }

    llm_target_pace_roll(p, now);

    known = p->limit != 0 && p->windowed == windowed;

    if (known && (call->number <= p->heard_number
                  || call->started < p->heard
                  || (windowed && call->started < p->began)))
    {
        return;
    }

    llm_target_pace_adopt(p, told, windowed, now);

    full = llm_target_pace_full(p);
    remaining = told->remaining < p->limit ? told->remaining : p->limit;
    remaining *= LLM_TARGET_MICRO;

    if (known && s->known) {
        delta = (int64_t) (p->corrected - s->corrected);
        delta = llm_target_pace_clamp(delta, -4 * full, 4 * full);
        delta = remaining - (s->level + delta);
        delta = llm_target_pace_behind(p, s, delta);
        delta = llm_target_pace_foretold(p, delta, call->started);
        llm_target_pace_others(p, delta, call->started);

    } else {
        delta = remaining - p->level;
        delta += llm_target_pace_gain(p, call->started, now);
        delta -= llm_target_pace_clamp((int64_t) (p->taken - s->taken), 0,
                                       p->limit) * LLM_TARGET_MICRO;
    }

    llm_target_pace_correct(p, delta, call->started, now);

    p->heard_number = call->number;
}


/* the limit as it was told; who knew nothing, or of another kind, begins */

void
llm_target_pace_adopt(llm_target_pace_t *p, const llm_target_limit_t *told,
    unsigned windowed, uint64_t now)
{
    int  known;

    known = p->limit != 0 && p->windowed == windowed;

    p->limit = told->limit < LLM_TARGET_LIMIT ? told->limit
                                              : LLM_TARGET_LIMIT;
    p->windowed = windowed;
    p->time = p->time > now ? p->time : now;

    if (!known) {
        p->rate = 0;
        p->depth = 0;
        p->others = 0;
        p->length = 0;
        p->until = 0;
        p->began = 0;
    }

    llm_target_pace_rate(p, told, now);
}


/* what was told of the time "started" makes such a difference */

void
llm_target_pace_correct(llm_target_pace_t *p, int64_t delta,
    uint64_t started, uint64_t now)
{
    int64_t  full;

    full = llm_target_pace_full(p);

    delta = llm_target_pace_clamp(delta, -2 * full, 2 * full);

    p->corrected += (uint64_t) delta;
    p->level = llm_target_pace_clamp(p->level + delta, -full, full);

    if (started >= p->woken) {
        p->woken = 0;
    }

    p->heard = started;
    p->heard_at = now;
    p->drained = p->others * (int64_t) (now - started < LLM_TARGET_MINUTE
                                        ? now - started : LLM_TARGET_MINUTE);
}


/*
 * Attempts overtake each other on their way there.  If more is left than was
 * foreseen, those that were started a moment before and have no answer yet
 * may not have arrived: so much is nothing new.
 */

static int64_t
llm_target_pace_behind(const llm_target_pace_t *p,
    const llm_target_share_t *s, int64_t delta)
{
    int64_t  behind;

    if (delta <= 0) {
        return delta;
    }

    behind = p->flying - (int64_t) (p->taken - s->taken);
    behind = behind < s->recent ? behind : s->recent;
    behind = llm_target_pace_clamp(behind, 0, p->limit) * LLM_TARGET_MICRO;

    return delta > behind ? delta - behind : 0;
}


void
llm_target_pace_landed(llm_target_pace_t *p, const llm_target_share_t *s)
{
    p->flying = p->flying > s->cost ? p->flying - s->cost : 0;
}


void
llm_target_pace_lost(llm_target_pace_t *p, uint32_t calls, uint32_t left)
{
    p->flying = calls != 0 ? p->flying / calls * left : 0;
}


/*
 * What was told holds what the provider took this attempt for; only what is
 * more than thought is taken from it then.
 */

void
llm_target_pace_used(llm_target_pace_t *p, const llm_target_share_t *s,
    int64_t used, int told, uint64_t now)
{
    int64_t  more, full;

    llm_target_pace_roll(p, now);

    if (p->limit == 0 || (!s->known && !told)) {
        return;
    }

    more = llm_target_pace_clamp(used, 0, LLM_TARGET_LIMIT) - s->cost;

    if (told && more < 0) {
        return;
    }

    full = llm_target_pace_full(p);
    more = llm_target_pace_clamp(more, -p->limit, p->limit);

    p->level = llm_target_pace_clamp(p->level - more * LLM_TARGET_MICRO,
                                     -full, full);
}


void
llm_target_pace_stat(const llm_target_pace_t *p, uint64_t now,
    llm_target_limit_t *limit)
{
    int64_t            left;
    llm_target_pace_t  pace;

    pace = *p;
    llm_target_pace_roll(&pace, now);

    limit->limit = LLM_TARGET_UNKNOWN;
    limit->remaining = LLM_TARGET_UNKNOWN;
    limit->reset = LLM_TARGET_UNKNOWN;

    if (pace.limit == 0) {
        return;
    }

    limit->limit = pace.limit;
    limit->remaining = pace.level > 0 ? pace.level / LLM_TARGET_MICRO : 0;

    if (pace.windowed) {
        limit->reset = pace.until > now ? (int64_t) (pace.until - now) : 0;
        return;
    }

    left = llm_target_pace_full(&pace) - pace.level;
    limit->reset = (left + pace.rate - 1) / pace.rate;
}


void
llm_target_pace_roll(llm_target_pace_t *p, uint64_t now)
{
    int64_t   full, drain;
    uint64_t  faded, to;

    if (p->limit == 0 || now <= p->time) {
        return;
    }

    if (now - p->heard_at >= LLM_TARGET_DEAF
        && (!p->windowed || now >= p->until))
    {
        /* other headers or none: better to know nothing */

        p->limit = 0;
        return;
    }

    full = llm_target_pace_full(p);

    if (p->windowed && now >= p->until) {
        p->began = p->until + (now - p->until) / p->length * p->length;
        p->until = p->began + p->length;
        p->level = full - llm_target_pace_air(p);
        p->drained = 0;
        p->time = p->began;
    }

    faded = p->heard_at + LLM_TARGET_FADE;
    to = now < faded ? now : faded;

    /* others take 2 * rate at most: no overflow */

    drain = to > p->time ? p->others * (int64_t) (to - p->time) : 0;
    p->drained += drain;

    p->level += llm_target_pace_gain(p, p->time, now) - drain;
    p->level = llm_target_pace_clamp(p->level, -full, full);
    p->time = now;
}


/* at most twice the limit, which fills it from any debt */

int64_t
llm_target_pace_gain(const llm_target_pace_t *p, uint64_t from, uint64_t to)
{
    int64_t  gain, most;

    if (p->windowed || to <= from) {
        return 0;
    }

    most = 2 * llm_target_pace_full(p);

    if (to - from > INT64_MAX
        || __builtin_mul_overflow(p->rate, (int64_t) (to - from), &gain)
        || gain > most)
    {
        return most;
    }

    return gain;
}


/*
 * How fast it fills: a bucket from which "d" units are gone is full again
 * after d / rate.  The headers round, "remaining" down: the more is gone, the
 * more exact, and the more it weighs.
 */

static void
llm_target_pace_rate(llm_target_pace_t *p, const llm_target_limit_t *told,
    uint64_t now)
{
    int64_t  gone, rate, most;

    most = p->limit * 1000;

    if (p->windowed) {

        if (told->reset > 0 && told->reset <= LLM_TARGET_LIMIT) {
            p->until = now + (uint64_t) told->reset;

            if (p->length < (uint64_t) told->reset) {
                p->length = (uint64_t) told->reset;
            }
        }

        if (p->length == 0) {
            p->length = LLM_TARGET_MINUTE;
        }

        if (p->until <= now) {
            p->until = now + p->length;
        }

        rate = most * 1000 / (int64_t) p->length;
        p->rate = llm_target_pace_clamp(rate, 1, most);
        return;
    }

    if (p->rate == 0) {
        p->rate = llm_target_pace_clamp(most * 1000 / LLM_TARGET_MINUTE, 1,
                                        most);
    }

    gone = p->limit - told->remaining;

    if (gone <= 0 || told->reset <= 0) {
        return;
    }

    /* (gone - 1/2) / reset */

    if (__builtin_mul_overflow(gone * 2 - 1, 500000, &rate)) {
        return;
    }

    rate = llm_target_pace_clamp(rate / told->reset, 1, most);

    gone = gone < LLM_TARGET_SURE ? gone : LLM_TARGET_SURE;
    p->depth = p->depth + gone < LLM_TARGET_SURE * 4
               ? p->depth + (uint32_t) gone : LLM_TARGET_SURE * 4;

    p->rate += (rate - p->rate) / (int64_t) p->depth * gone;
    p->rate = llm_target_pace_clamp(p->rate, 1, most);
}


/*
 * What they took since the telling before: the drain that was assumed, less
 * the correction.  It is nothing at the least, so one telling does not make
 * them disappear.
 */

void
llm_target_pace_others(llm_target_pace_t *p, int64_t delta, uint64_t started)
{
    int64_t  dt, change;

    /* a telling from long ago compares what nobody remembers */

    dt = started > p->heard ? (int64_t) (started - p->heard) : 0;
    dt = dt < LLM_TARGET_MINUTE ? dt : LLM_TARGET_MINUTE;

    change = p->others * dt < delta ? p->others * dt : delta;
    change = p->others - change / (LLM_TARGET_TAU + dt);

    p->others = llm_target_pace_clamp(change, 0, 2 * p->rate);
}
