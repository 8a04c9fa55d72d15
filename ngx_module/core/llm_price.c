
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_price.h"
#include "core/llm_policy_parser.h"
#include "core/llm_route.h"

#include <stdio.h>
#include <string.h>


#define LLM_PRICE_MILLION   1000000
#define LLM_PRICE_USD       1000000        /* most, per million tokens */
#define LLM_PRICE_PATTERNS  10000
#define LLM_PRICE_NAME      256
#define LLM_PRICE_NONE      UINT32_MAX
#define LLM_PRICE_HASH      2166136261u    /* of nothing */


typedef struct {
    llm_str_t             name;
    llm_price_t           price;
    uint32_t              hash;
} llm_price_row_t;


/*
 * Names and patterns with one star, at the end, are found by their hash: a
 * model is looked up as it is and then by each of its beginnings.  Patterns
 * of another form are tried one by one.  All is in one block of memory.
 */

struct llm_prices_s {
    llm_price_row_t      *rows;
    uint32_t             *index;
    uint32_t             *others;          /* patterns of another form */
    uint32_t              mask;
    unsigned              n;
    unsigned              nothers;
    void                (*free)(void *p);
};


static llm_prices_t *llm_prices_create(json_t *root);
static int llm_prices_read(llm_prices_t *ps, llm_policy_at_t *at,
    json_t *root);
static int llm_prices_name(llm_policy_at_t *at, const char *name,
    size_t len);
static int llm_price_read(llm_price_t *p, llm_policy_at_t *at, json_t *row);
static int llm_price_amount(llm_policy_at_t *at, json_t *row,
    const char *name, int64_t missing, int64_t *amount);
static void llm_prices_index(llm_prices_t *ps);
static const llm_price_row_t *llm_prices_look(const llm_prices_t *ps,
    const llm_str_t *model, size_t len, uint32_t hash, int star);


static inline uint32_t
llm_prices_hash(uint32_t h, unsigned char c)
{
    return (h ^ c) * 16777619u;
}


/* the index takes the low bits: let the high ones have their say */

static inline uint32_t
llm_prices_slot(uint32_t h)
{
    return h ^ h >> 15;
}


llm_prices_t *
llm_prices_parse(const char *text, size_t len, char *err, size_t errlen)
{
    char              got[32];
    json_t           *root;
    llm_prices_t     *ps;
    llm_policy_at_t   at;

    root = llm_policy_load(text, len, err, errlen);

    if (root == NULL) {
        return NULL;
    }

    memset(&at, 0, sizeof(llm_policy_at_t));

    at.path.index = -1;
    at.err = err;
    at.errlen = errlen;

    ps = NULL;

    if (!json_is_object(root)) {
        (void) llm_policy_refuse(&at, "an object", root);

    } else if (json_object_size(root) > LLM_PRICE_PATTERNS) {
        snprintf(got, sizeof(got), "%zu", json_object_size(root));
        llm_policy_error(err, errlen, &at.path,
                         "at most 10000 models and patterns", got);

    } else {
        ps = llm_prices_create(root);

        if (ps == NULL) {
            snprintf(err, errlen, "out of memory");

        } else if (llm_prices_read(ps, &at, root) != LLM_OK) {
            llm_prices_destroy(ps);
            ps = NULL;
        }
    }

    json_decref(root);

    return ps;
}


void
llm_prices_destroy(llm_prices_t *ps)
{
    if (ps != NULL) {
        ps->free(ps);
    }
}


unsigned
llm_prices_count(const llm_prices_t *ps)
{
    return ps->n;
}


static llm_prices_t *
llm_prices_create(json_t *root)
{
    void           *iter;
    size_t          n, slots, text;
    json_free_t     release;
    llm_prices_t   *ps;
    json_malloc_t   allocate;
    unsigned char  *p;

    n = json_object_size(root);
    text = 0;

    for (iter = json_object_iter(root);
         iter != NULL;
         iter = json_object_iter_next(root, iter))
    {
        text += strlen(json_object_iter_key(iter));
    }

    for (slots = 2; slots < 2 * n; slots *= 2) { /* void */ }

    json_get_alloc_funcs(&allocate, &release);

    ps = allocate(sizeof(llm_prices_t) + n * sizeof(llm_price_row_t)
                  + (slots + n) * sizeof(uint32_t) + text);
    if (ps == NULL) {
        return NULL;
    }

    memset(ps, 0, sizeof(llm_prices_t));

    ps->rows = (llm_price_row_t *) (ps + 1);
    ps->index = (uint32_t *) (ps->rows + n);
    ps->others = ps->index + slots;
    ps->mask = (uint32_t) slots - 1;
    ps->free = release;

    memset(ps->index, 0xff, slots * sizeof(uint32_t));

    p = (unsigned char *) (ps->others + n);

    for (iter = json_object_iter(root);
         iter != NULL;
         iter = json_object_iter_next(root, iter))
    {
        ps->rows[ps->n].name.data = p;
        ps->rows[ps->n].name.len = strlen(json_object_iter_key(iter));

        memcpy(p, json_object_iter_key(iter), ps->rows[ps->n].name.len);

        p += ps->rows[ps->n++].name.len;
    }

    return ps;
}


static int
llm_prices_read(llm_prices_t *ps, llm_policy_at_t *at, json_t *root)
{
    void             *iter;
    llm_price_row_t  *row;

    row = ps->rows;

    for (iter = json_object_iter(root);
         iter != NULL;
         iter = json_object_iter_next(root, iter), row++)
    {
        at->path.depth = 0;

        if (llm_prices_name(at, (const char *) row->name.data, row->name.len)
            != LLM_OK)
        {
            return LLM_ERROR;
        }

        at->path.depth = 1;
        at->path.name[0] = json_object_iter_key(iter);

        if (llm_price_read(&row->price, at, json_object_iter_value(iter))
            != LLM_OK)
        {
            return LLM_ERROR;
        }
    }

    llm_prices_index(ps);

    return LLM_OK;
}


static int
llm_prices_name(llm_policy_at_t *at, const char *name, size_t len)
{
    char    got[LLM_POLICY_SHOW + 32];
    size_t  i;

    for (i = 0; i < len; i++) {
        if ((unsigned char) name[i] < 0x20 || name[i] == 0x7f) {
            break;
        }
    }

    if (len != 0 && len <= LLM_PRICE_NAME && i == len) {
        return LLM_OK;
    }

    llm_policy_show(got, sizeof(got), name, len);
    llm_policy_error(at->err, at->errlen, &at->path,
                     "names of 1 to 256 bytes without control characters",
                     got);
    return LLM_ERROR;
}


static int
llm_price_read(llm_price_t *p, llm_policy_at_t *at, json_t *row)
{
    static const char *const  names[] = {
        "input", "cached_input", "output", "batch_input", "batch_output", NULL
    };

    if (llm_policy_only(at, row, names) != LLM_OK) {
        return LLM_ERROR;
    }

    at->path.depth = 2;

    if (llm_price_amount(at, row, "input", -1, &p->input) != LLM_OK
        || llm_price_amount(at, row, "output", -1, &p->output) != LLM_OK)
    {
        return LLM_ERROR;
    }

    if (llm_price_amount(at, row, "cached_input", p->input, &p->cached_input)
        != LLM_OK)
    {
        return LLM_ERROR;
    }

    if (llm_price_amount(at, row, "batch_input", (p->input + 1) / 2,
                         &p->batch_input)
        != LLM_OK)
    {
        return LLM_ERROR;
    }

    return llm_price_amount(at, row, "batch_output", (p->output + 1) / 2,
                            &p->batch_output);
}


/* "missing" is what is not given, -1: it must be */

static int
llm_price_amount(llm_policy_at_t *at, json_t *row, const char *name,
    int64_t missing, int64_t *amount)
{
    double   usd;
    json_t  *value;

    value = llm_policy_part(at, row, name);

    if (value == NULL && missing != -1) {
        *amount = missing;
        return LLM_OK;
    }

    usd = json_number_value(value);

    if (!json_is_number(value) || usd < 0 || usd > LLM_PRICE_USD) {
        return llm_policy_refuse(at, "a number from 0 to 1000000", value);
    }

    /*
     * A double tells the billionths of such a number apart, so that they are
     * what was written; then half up, in integers.
     */

    *amount = ((int64_t) (usd * 1e9 + 0.5) + 500) / 1000;

    return LLM_OK;
}


static void
llm_prices_index(llm_prices_t *ps)
{
    size_t                i, len;
    uint32_t              slot;
    unsigned              n;
    llm_price_row_t      *row;
    const unsigned char  *name, *star;

    for (n = 0; n < ps->n; n++) {
        row = &ps->rows[n];
        name = row->name.data;
        len = row->name.len;

        star = memchr(name, '*', len);

        if (star != NULL && star != name + len - 1) {
            ps->others[ps->nothers++] = n;
            continue;
        }

        row->hash = LLM_PRICE_HASH;

        for (i = 0; i < len; i++) {
            row->hash = llm_prices_hash(row->hash, name[i]);
        }

        slot = llm_prices_slot(row->hash) & ps->mask;

        while (ps->index[slot] != LLM_PRICE_NONE) {
            slot = (slot + 1) & ps->mask;
        }

        ps->index[slot] = n;
    }
}


const llm_price_t *
llm_prices_find(const llm_prices_t *ps, const llm_str_t *model)
{
    size_t                  n, len;
    unsigned                i;
    uint32_t                hash[LLM_PRICE_NAME + 1];
    const llm_price_row_t  *row, *other;

    len = model->len < LLM_PRICE_NAME ? model->len : LLM_PRICE_NAME;
    hash[0] = LLM_PRICE_HASH;

    for (n = 0; n < len; n++) {
        hash[n + 1] = llm_prices_hash(hash[n], model->data[n]);
    }

    row = len == model->len ? llm_prices_look(ps, model, len, hash[len], 0)
                            : NULL;
    if (row != NULL) {
        return &row->price;
    }

    for (n = len + 1; n > 0 && row == NULL; n--) {
        row = llm_prices_look(ps, model, n - 1,
                              llm_prices_hash(hash[n - 1], '*'), 1);
    }

    for (i = 0; i < ps->nothers; i++) {
        other = &ps->rows[ps->others[i]];

        if ((row == NULL || other->name.len > row->name.len)
            && llm_route_match(&other->name, model))
        {
            row = other;
        }
    }

    return row != NULL ? &row->price : NULL;
}


/* the row of the first bytes of a model's name, and a star behind them */

static const llm_price_row_t *
llm_prices_look(const llm_prices_t *ps, const llm_str_t *model, size_t len,
    uint32_t hash, int star)
{
    uint32_t                slot;
    const llm_str_t        *name;
    const llm_price_row_t  *row;

    slot = llm_prices_slot(hash) & ps->mask;

    for ( /* void */ ; ps->index[slot] != LLM_PRICE_NONE;
         slot = (slot + 1) & ps->mask)
    {
        row = &ps->rows[ps->index[slot]];
        name = &row->name;

        if (row->hash != hash || name->len != len + (size_t) star
            || memcmp(name->data, model->data, len) != 0)
        {
            continue;
        }

        if (!star || name->data[len] == '*') {
            return row;
        }
    }

    return NULL;
}


int64_t
llm_price_cost(const llm_price_t *p, int64_t prompt, int64_t cached,
    int64_t completion)
{
    unsigned __int128  cost;

    /* what was not reported is not charged */

    prompt = prompt > 0 ? prompt : 0;
    cached = cached > 0 ? cached : 0;
    cached = cached < prompt ? cached : prompt;
    completion = completion > 0 ? completion : 0;

    cost = (unsigned __int128) (prompt - cached) * (uint64_t) p->input
           + (unsigned __int128) cached * (uint64_t) p->cached_input
           + (unsigned __int128) completion * (uint64_t) p->output;

    cost = (cost + LLM_PRICE_MILLION / 2) / LLM_PRICE_MILLION;

    return cost < INT64_MAX ? (int64_t) cost : INT64_MAX;
}


int64_t
llm_price_tokens(const llm_price_t *p, int64_t money)
{
    unsigned __int128  tokens;

    if (p->output <= 0) {
        return INT64_MAX;
    }

    if (money <= 0) {
        return 0;
    }

    tokens = (unsigned __int128) money * LLM_PRICE_MILLION
             / (uint64_t) p->output;

    return tokens < INT64_MAX ? (int64_t) tokens : INT64_MAX;
}
