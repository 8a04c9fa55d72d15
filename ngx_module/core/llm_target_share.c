
/*
 * Copyright (C) the ngx-llm authors
 *
 * What gateways with the same provider tell each other.  News of a limit is
 * an answer to somebody else's attempt: it holds for the time when that one
 * was started, and what has been started here since is taken from it.  For
 * that each target remembers how much had been taken at the beginning of each
 * of the last steps.  Who tells it adds what it has started itself since: of
 * that no answer could tell yet.  The newest start is believed, whoever made
 * it; news that is older than the last own answer, or than what is
 * remembered, says nothing.
 */


#include "core/llm_target_private.h"


#define LLM_TARGET_PAST_MS   250            /* of a step */
#define LLM_TARGET_TELL      200            /* ms between two tellings */
#define LLM_TARGET_TELL_FELL 20             /* … when it fell by a step */
#define LLM_TARGET_FELL      10             /* steps of a limit */
#define LLM_TARGET_MOMENT    100            /* ms: may not have arrived */
#define LLM_TARGET_COOLEST   86400000       /* ms; more is no wait */


static int llm_target_fell(const llm_target_limit_t *l, int64_t since,
    int64_t *left);
static void llm_target_cool_heard(llm_target_row_t *row, uint64_t ms,
    uint64_t now);
static int64_t llm_target_pace_since(const llm_target_pace_t *p,
    uint64_t at);
static void llm_target_pace_heard(llm_target_pace_t *p,
    const llm_target_limit_t *told, int64_t theirs, unsigned windowed,
    uint64_t age, uint64_t late, uint64_t now);


int
llm_target_tell(llm_targets_t *tg, uint32_t i, const llm_target_call_t *call,
    const llm_target_limit_t *requests, const llm_target_limit_t *tokens,
    uint64_t now, llm_target_news_t *news)
{
    int                 fell;
    int64_t             calls, units, left[2];
    uint64_t            pause;
    llm_target_row_t   *row;
    llm_target_post_t  *post;

    row = llm_target_row(tg, i);

    if (row == NULL || !call->running || call->epoch != tg->epoch
        || (row->requests.heard_number != call->number
            && row->tokens.heard_number != call->number))
    {
        return 0;
    }

    post = &row->post;

    calls = llm_target_pace_clamp((int64_t) (row->requests.taken
                                             - call->requests.taken),
                                  0, LLM_TARGET_LIMIT);
    units = llm_target_pace_clamp((int64_t) (row->tokens.taken
                                             - call->tokens.taken),
                                  0, LLM_TARGET_LIMIT);

    left[0] = post->left[0];
    left[1] = post->left[1];

    fell = llm_target_fell(requests, calls, &left[0]);
    fell |= llm_target_fell(tokens, units, &left[1]);

    pause = fell ? LLM_TARGET_TELL_FELL : LLM_TARGET_TELL;

    if (post->told != 0 && now < post->told + pause) {
        return 0;
    }

    post->told = now;
    post->left[0] = left[0];
    post->left[1] = left[1];

    news->requests = *requests;
    news->tokens = *tokens;
    news->requests_since = calls;
    news->tokens_since = units;
    news->cool = LLM_TARGET_UNKNOWN;
    news->age = now > call->started ? now - call->started : 0;

    return 1;
}


/* there is much less of it than what was told last; "left" becomes what is */

static int
llm_target_fell(const llm_target_limit_t *l, int64_t since, int64_t *left)
{
    int64_t  now, step, last;

    if (l->limit <= 0 || l->remaining < 0) {
        return 0;
    }

    now = l->remaining < l->limit ? l->remaining : l->limit;
    now = now > since ? now - since : 0;

    step = l->limit / LLM_TARGET_FELL;
    step = step > 0 ? step : 1;

    last = *left;
    *left = now;

    return last >= now && last - now >= step;
}


/* each of many refused calls moves the end by a little: that is no news */

int
llm_target_tell_cool(llm_targets_t *tg, uint32_t i, uint64_t now,
    llm_target_news_t *news)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL || row->cool.until <= now
        || row->cool.until < row->post.cool + LLM_TARGET_TELL)
    {
        return 0;
    }

    row->post.cool = row->cool.until;

    news->requests.limit = LLM_TARGET_UNKNOWN;
    news->requests.remaining = LLM_TARGET_UNKNOWN;
    news->requests.reset = LLM_TARGET_UNKNOWN;
    news->tokens = news->requests;
    news->requests_since = 0;
    news->tokens_since = 0;
    news->cool = (int64_t) (row->cool.until - now);
    news->age = 0;

    return 1;
}


void
llm_target_heard(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    const llm_target_news_t *news, uint64_t late, uint64_t now)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL || late >= LLM_TARGET_COOLEST
        || news->age >= LLM_TARGET_COOLEST)
    {
        return;
    }

    if (news->cool > (int64_t) late && news->cool <= LLM_TARGET_COOLEST) {
        llm_target_cool_heard(row, (uint64_t) news->cool - late, now);
    }

    if (conf->pace) {
        llm_target_pace_heard(&row->requests, &news->requests,
                              news->requests_since, conf->windowed,
                              news->age, late, now);
        llm_target_pace_heard(&row->tokens, &news->tokens,
                              news->tokens_since, conf->windowed,
                              news->age, late, now);
    }
}


/* it is not told again: who told it told all */

static void
llm_target_cool_heard(llm_target_row_t *row, uint64_t ms, uint64_t now)
{
    llm_target_cool_t  *c;

    c = &row->cool;

    if (now + ms <= c->until) {
        return;
    }

    if (now >= c->until) {

        /* calls that are under way say nothing new */

        c->since = now + 1;
        row->cooled++;
    }

    c->until = now + ms;

    if (row->post.cool < c->until) {
        row->post.cool = c->until;
    }
}


void
llm_target_pace_mark(llm_target_pace_t *p, uint64_t now)
{
    uint64_t  step;

    step = now / LLM_TARGET_PAST_MS;

    if (step > p->mark + LLM_TARGET_PAST) {
        p->mark = step - LLM_TARGET_PAST;
    }

    while (p->mark < step) {
        p->mark++;
        p->past[p->mark % LLM_TARGET_PAST] = p->taken;
    }
}


/* units taken here after "at", about; LLM_TARGET_UNKNOWN: too long ago */

static int64_t
llm_target_pace_since(const llm_target_pace_t *p, uint64_t at)
{
    int64_t   n, width, gone;
    uint64_t  step, end;

    if (at >= p->last) {
        return 0;
    }

    step = at / LLM_TARGET_PAST_MS;

    if (step + LLM_TARGET_PAST <= p->mark) {
        return LLM_TARGET_UNKNOWN;
    }

    if (step < p->mark) {
        end = p->past[(step + 1) % LLM_TARGET_PAST];
        width = LLM_TARGET_PAST_MS;

    } else {
        end = p->taken;
        width = (int64_t) (p->last - step * LLM_TARGET_PAST_MS) + 1;
    }

    gone = (int64_t) (at - step * LLM_TARGET_PAST_MS) + 1;

    n = (int64_t) (end - p->past[step % LLM_TARGET_PAST]);
    n = llm_target_pace_clamp(n, 0, LLM_TARGET_LIMIT);
    n = gone < width ? n * (width - gone) / width : 0;

    return n + llm_target_pace_clamp((int64_t) (p->taken - end), 0,
                                     LLM_TARGET_LIMIT);
}


/*
 * What others have started may arrive after an attempt of ours that began at
 * the same time: that it saw more left is no news by so much.
 */

int64_t
llm_target_pace_foretold(const llm_target_pace_t *p, int64_t delta,
    uint64_t started)
{
    if (delta <= 0 || started > p->foretold_at) {
        return delta;
    }

    return delta > p->foretold ? delta - p->foretold : 0;
}


/* "age" is of the attempt when it was told, "late" is since then */

static void
llm_target_pace_heard(llm_target_pace_t *p, const llm_target_limit_t *told,
    int64_t theirs, unsigned windowed, uint64_t age, uint64_t late,
    uint64_t now)
{
    int       known;
    int64_t   delta, since, before, behind, drain;
    uint64_t  at;

    if (told->limit <= 0 || told->remaining < 0 || now < age + late) {
        return;
    }

    llm_target_pace_roll(p, now);

    known = p->limit != 0 && p->windowed == windowed;
    at = now - age - late;
    since = llm_target_pace_since(p, at);

    if (since < 0
        || (known && (at < p->heard || (windowed && at < p->began)))
        || (windowed && told->reset >= 0 && told->reset <= (int64_t) late))
    {
        return;
    }

    llm_target_pace_adopt(p, told, windowed, now - late);
    p->time = p->time > now ? p->time : now;

    delta = told->remaining < p->limit ? told->remaining : p->limit;
    delta -= llm_target_pace_clamp(since, 0, p->limit);
    delta = delta * LLM_TARGET_MICRO - p->level;
    delta += llm_target_pace_gain(p, at, now);

    /* what others are thought to take holds what the one who told it took */

    theirs = llm_target_pace_clamp(theirs, 0, p->limit) * LLM_TARGET_MICRO;
    drain = known ? p->others * (int64_t) (age + late < LLM_TARGET_MINUTE
                                           ? age + late : LLM_TARGET_MINUTE)
                  : 0;
    delta -= theirs > drain ? theirs : drain;

    if (known) {

        delta = llm_target_pace_foretold(p, delta, at);

        if (at == p->heard && delta >= 0) {
            return;
        }

        llm_target_pace_others(p, delta, at);

        /* those of ours just before it may not have arrived then */

        before = llm_target_pace_since(p, at > LLM_TARGET_MOMENT
                                          ? at - LLM_TARGET_MOMENT : 0);
        before = before < 0 ? p->limit : before - since;

        behind = p->flying - since;
        behind = behind < before ? behind : before;
        behind = llm_target_pace_clamp(behind, 0, p->limit);

        delta -= behind * LLM_TARGET_MICRO;
    }

    p->foretold = theirs;
    p->foretold_at = now - late;

    llm_target_pace_correct(p, delta, at, now);
}
