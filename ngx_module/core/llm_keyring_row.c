
/*
 * Copyright (C) the ngx-llm authors
 *
 * A row as bytes, and back.
 */


#include "core/llm_keyring_private.h"


/* behind the names: a tag, and what belongs to it as numbers or bytes */

enum {
    LLM_TAG_TERM = 1,                      /* this and further: see below */
    LLM_TAG_BUDGET = 24,
    LLM_TAG_PRIORITY,
    LLM_TAG_EXPIRES = 32,
    LLM_TAG_CREATED,
    LLM_TAG_UNTIL,                         /* of the older secret */
    LLM_TAG_METADATA,
    LLM_TAG_HINT,
    LLM_TAG_MODELS,
    LLM_TAG_RAISE = 40                     /* this and further */
};


#define LLM_KEYRING_FIXED  512             /* all but names and lists */


/* the tag is the place in here; never renumbered within one build */

static const struct {
    uint16_t              offset;
    uint16_t              wide;
} llm_keyring_terms[] = {

#define llm_keyring_wide(name)  { offsetof(llm_terms_t, name), 1 }
#define llm_keyring_int(name)   { offsetof(llm_terms_t, name), 0 }

    llm_keyring_wide(requests_per_minute),
    llm_keyring_wide(requests_per_day),
    llm_keyring_wide(tokens_per_minute),
    llm_keyring_wide(tokens_per_day),
    llm_keyring_wide(burst_requests),
    llm_keyring_wide(burst_tokens),
    llm_keyring_wide(concurrency),
    llm_keyring_wide(queue_timeout),
    llm_keyring_wide(cache_ttl),
    llm_keyring_wide(weight),
    llm_keyring_int(queue_size),
    llm_keyring_int(queue_rates),
    llm_keyring_int(cache_scope),
    llm_keyring_int(cache_use),
    llm_keyring_int(cache_skip),
    llm_keyring_int(cut),
    llm_keyring_int(clamp),
};


#define LLM_KEYRING_TERMS                                                     \
    (sizeof(llm_keyring_terms) / sizeof(llm_keyring_terms[0]))

_Static_assert(LLM_KEYRING_TERMS < LLM_TAG_BUDGET, "tags");


typedef enum {
    LLM_PEN_COUNT = 0,
    LLM_PEN_WRITE,
    LLM_PEN_COMPARE
} llm_keyring_pen_e;


typedef struct {
    const llm_keyring_t  *kr;
    llm_keyring_pen_e     mode;
    uint32_t              block;
    unsigned char        *p;
    size_t                left;            /* in this block */
    size_t                len;             /* so far */
    int                   differs;
} llm_keyring_pen_t;


static void llm_keyring_emit(llm_keyring_pen_t *pen,
    const llm_policy_row_t *row);
static unsigned char *llm_keyring_emit_fixed(unsigned char *p,
    const llm_policy_row_t *row);
static void llm_keyring_emit_text(llm_keyring_pen_t *pen, unsigned tag,
    const llm_str_t *s);
static void llm_keyring_pen_start(llm_keyring_pen_t *pen,
    const llm_keyring_t *kr, llm_keyring_pen_e mode, uint32_t block);
static void llm_keyring_pen(llm_keyring_pen_t *pen, const void *data,
    size_t len);
static unsigned char *llm_keyring_copy(const llm_keyring_t *kr, uint32_t i,
    llm_arena_t *arena);
static int llm_keyring_parse(const unsigned char *p, const unsigned char *end,
    llm_policy_row_t *row, llm_arena_t *arena);
static void llm_keyring_parse_term(llm_terms_t *terms, unsigned tag,
    uint64_t n);
static const unsigned char *llm_keyring_parse_models(const unsigned char *p,
    llm_policy_row_t *row, llm_arena_t *arena);


static inline unsigned char *
llm_keyring_number(unsigned char *p, uint64_t n)
{
    while (n > 0x7f) {
        *p++ = (unsigned char) (n | 0x80);
        n >>= 7;
    }

    *p++ = (unsigned char) n;

    return p;
}


static inline uint64_t
llm_keyring_get_number(const unsigned char **p)
{
    uint64_t  n;
    unsigned  shift;

    n = *(*p)++;

    if (n < 0x80) {
        return n;
    }

    n &= 0x7f;

    for (shift = 7; shift < 64; shift += 7) {
        n |= (uint64_t) (**p & 0x7f) << shift;

        if (*(*p)++ < 0x80) {
            break;
        }
    }

    return n;
}


static inline int64_t
llm_keyring_term(const llm_terms_t *terms, unsigned i)
{
    const char  *at;

    at = (const char *) terms + llm_keyring_terms[i].offset;

    return llm_keyring_terms[i].wide ? *(const int64_t *) (const void *) at
                                     : *(const int *) (const void *) at;
}


uint32_t
llm_keyring_row_len(const llm_policy_row_t *row)
{
    llm_keyring_pen_t  pen;

    if (row->name.len == 0 || row->name.len > LLM_POLICY_NAME_MAX
        || row->team.len > LLM_POLICY_NAME_MAX)
    {
        return 0;
    }

    llm_keyring_pen_start(&pen, NULL, LLM_PEN_COUNT, 0);
    llm_keyring_emit(&pen, row);

    return pen.len > LLM_KEYRING_LONGEST ? 0 : (uint32_t) pen.len;
}


uint32_t
llm_keyring_row_write(llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row, uint32_t len, uint8_t flags, uint8_t gens)
{
    llm_keyring_pen_t     pen;
    llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);

    b->gens = gens;
    b->flags = flags | (row->enabled ? LLM_KEYRING_F_ENABLED : 0);
    b->nname = (uint8_t) (row->name.len + 2);
    b->name = 0;
    b->secret = 0;
    b->hash = llm_keyring_hash(row->kind, &row->name);
    b->thash = row->team.len != 0 ? llm_keyring_hash(LLM_ROW_TEAM, &row->team)
                                  : 0;
    b->other = 0;
    b->len = len & 0xffffff;
    b->nteam = row->team.len & 0xff;

    if (row->kind == LLM_ROW_KEY) {
        memcpy(b->sha256, row->sha256, sizeof(b->sha256));

    } else {
        memset(b->sha256, 0, sizeof(b->sha256));
    }

    llm_keyring_pen_start(&pen, kr, LLM_PEN_WRITE, i);
    llm_keyring_emit(&pen, row);

    return pen.block;
}


int
llm_keyring_row_same(const llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row, uint32_t len)
{
    llm_keyring_pen_t     pen;
    llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);

    if (b->len != len || b->nteam != row->team.len
        || b->nname != row->name.len + 2
        || ((b->flags & LLM_KEYRING_F_ENABLED) != 0) != (row->enabled != 0))
    {
        return 0;
    }

    if (row->kind == LLM_ROW_KEY
        && memcmp(b->sha256, row->sha256, sizeof(b->sha256)) != 0)
    {
        return 0;
    }

    llm_keyring_pen_start(&pen, kr, LLM_PEN_COMPARE, i);
    llm_keyring_emit(&pen, row);

    return !pen.differs;
}


static void
llm_keyring_emit(llm_keyring_pen_t *pen, const llm_policy_row_t *row)
{
    unsigned        i;
    unsigned char   buf[LLM_KEYRING_FIXED], *p;

    if (row->version != 0) {
        llm_keyring_pen(pen, &row->version, LLM_KEYRING_VERSION);
    }

    llm_keyring_pen(pen, row->kind == LLM_ROW_KEY ? "k:" : "t:", 2);
    llm_keyring_pen(pen, row->name.data, row->name.len);
    llm_keyring_pen(pen, row->team.data, row->team.len);

    p = llm_keyring_emit_fixed(buf, row);
    llm_keyring_pen(pen, buf, (size_t) (p - buf));

    llm_keyring_emit_text(pen, LLM_TAG_METADATA, &row->metadata);
    llm_keyring_emit_text(pen, LLM_TAG_HINT, &row->hint);

    if (row->nmodels != 0) {
        buf[0] = LLM_TAG_MODELS;
        p = llm_keyring_number(buf + 1, row->nmodels);
        llm_keyring_pen(pen, buf, (size_t) (p - buf));
    }

    for (i = 0; i < row->nmodels; i++) {
        p = llm_keyring_number(buf, row->models[i].len);
        llm_keyring_pen(pen, buf, (size_t) (p - buf));
        llm_keyring_pen(pen, row->models[i].data, row->models[i].len);
    }
}


static void
llm_keyring_emit_text(llm_keyring_pen_t *pen, unsigned tag,
    const llm_str_t *s)
{
    unsigned char  buf[16], *p;

    if (s->len == 0) {
        return;
    }

    buf[0] = (unsigned char) tag;
    p = llm_keyring_number(buf + 1, s->len);

    llm_keyring_pen(pen, buf, (size_t) (p - buf));
    llm_keyring_pen(pen, s->data, s->len);
}


static unsigned char *
llm_keyring_emit_fixed(unsigned char *p, const llm_policy_row_t *row)
{
    int64_t   n;
    unsigned  i;

    for (i = 0; i < LLM_KEYRING_TERMS; i++) {
        n = llm_keyring_term(&row->terms, i);

        if (n != -1) {
            *p++ = (unsigned char) (LLM_TAG_TERM + i);
            p = llm_keyring_number(p, (uint64_t) n);
        }
    }

    if (row->terms.budget_micro_usd != -1) {
        *p++ = LLM_TAG_BUDGET;
        p = llm_keyring_number(p, (uint64_t) row->terms.budget_micro_usd << 1
                                  | (row->terms.budget_month != 0));
    }

    if (row->terms.priority != LLM_POLICY_UNSET) {
        *p++ = LLM_TAG_PRIORITY;
        n = row->terms.priority;
        p = llm_keyring_number(p, n < 0 ? (uint64_t) -n << 1 | 1
                                        : (uint64_t) n << 1);
    }

    if (row->expires != 0) {
        *p++ = LLM_TAG_EXPIRES;
        p = llm_keyring_number(p, (uint64_t) row->expires);
    }

    if (row->created != 0) {
        *p++ = LLM_TAG_CREATED;
        p = llm_keyring_number(p, (uint64_t) row->created);
    }

    if (row->old_until != 0) {
        *p++ = LLM_TAG_UNTIL;
        p = llm_keyring_number(p, (uint64_t) row->old_until);
    }

    for (i = 0; i < LLM_RAISES; i++) {

        if (row->raise[i].until != 0) {
            *p++ = (unsigned char) (LLM_TAG_RAISE + i);
            p = llm_keyring_number(p, (uint64_t) row->raise[i].value);
            p = llm_keyring_number(p, (uint64_t) row->raise[i].until);
        }
    }

    return p;
}


static void
llm_keyring_pen_start(llm_keyring_pen_t *pen, const llm_keyring_t *kr,
    llm_keyring_pen_e mode, uint32_t block)
{
    pen->kr = kr;
    pen->mode = mode;
    pen->block = block;
    pen->len = 0;
    pen->differs = 0;
    pen->p = NULL;
    pen->left = 0;

    if (mode != LLM_PEN_COUNT) {
        pen->p = llm_keyring_block(kr, block)->data;
        pen->left = LLM_KEYRING_FIRST;
    }
}


static void
llm_keyring_pen(llm_keyring_pen_t *pen, const void *data, size_t len)
{
    size_t                n;
    const unsigned char  *from;

    from = data;
    pen->len += len;

    if (pen->mode == LLM_PEN_COUNT) {
        return;
    }

    while (len != 0 && !pen->differs) {

        if (pen->left == 0) {
            pen->block = llm_keyring_block(pen->kr, pen->block)->link;
            pen->p = (unsigned char *) llm_keyring_block(pen->kr, pen->block)
                     + LLM_KEYRING_BLOCK - LLM_KEYRING_MORE;
            pen->left = LLM_KEYRING_MORE;
        }

        n = len < pen->left ? len : pen->left;

        if (pen->mode == LLM_PEN_WRITE) {
            memcpy(pen->p, from, n);

        } else if (memcmp(pen->p, from, n) != 0) {
            pen->differs = 1;
        }

        pen->p += n;
        pen->left -= n;
        from += n;
        len -= n;
    }
}


int
llm_keyring_row_read(const llm_keyring_t *kr, uint32_t i,
    llm_policy_row_t *row, llm_str_t *full, llm_arena_t *arena)
{
    unsigned char              *p, *end;
    const llm_keyring_block_t  *b, *alias;

    b = llm_keyring_block(kr, i);

    p = llm_keyring_copy(kr, i, arena);
    if (p == NULL) {
        return LLM_ERROR;
    }

    end = p + b->len;

    llm_policy_row_clear(row, b->kind == LLM_KEYRING_IS_KEY ? LLM_ROW_KEY
                                                            : LLM_ROW_TEAM);

    if (b->flags & LLM_KEYRING_F_DYNAMIC) {
        memcpy(&row->version, p, LLM_KEYRING_VERSION);
        p += LLM_KEYRING_VERSION;
    }

    full->data = p;
    full->len = b->nname;

    row->name.data = p + 2;
    row->name.len = b->nname - 2u;
    row->team.data = p + b->nname;
    row->team.len = b->nteam;
    row->enabled = (b->flags & LLM_KEYRING_F_ENABLED) != 0;

    memcpy(row->sha256, b->sha256, sizeof(row->sha256));

    if (b->other != 0) {
        alias = llm_keyring_block(kr, b->other);
        memcpy(row->old_sha256, alias->sha256, sizeof(row->old_sha256));
    }

    return llm_keyring_parse(p + b->nname + b->nteam, end, row, arena);
}


/* the row's bytes in one piece */

static unsigned char *
llm_keyring_copy(const llm_keyring_t *kr, uint32_t i, llm_arena_t *arena)
{
    size_t                      n, len;
    unsigned char              *p, *to;
    const llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);
    len = b->len;

    p = llm_arena_alloc(arena, len);
    if (p == NULL) {
        return NULL;
    }

    n = len < LLM_KEYRING_FIRST ? len : LLM_KEYRING_FIRST;
    memcpy(p, b->data, n);

    for (to = p + n; (len -= n) != 0; to += n) {
        b = llm_keyring_block(kr, b->link);
        n = len < LLM_KEYRING_MORE ? len : LLM_KEYRING_MORE;
        memcpy(to, (const unsigned char *) b + LLM_KEYRING_BLOCK
                   - LLM_KEYRING_MORE, n);
    }

    return p;
}


static int
llm_keyring_parse(const unsigned char *p, const unsigned char *end,
    llm_policy_row_t *row, llm_arena_t *arena)
{
    uint64_t    n;
    unsigned    tag;
    llm_str_t  *s;

    while (p < end) {
        tag = *p++;

        if (tag == LLM_TAG_MODELS) {
            p = llm_keyring_parse_models(p, row, arena);

            if (p == NULL) {
                return LLM_ERROR;
            }

            continue;
        }

        n = llm_keyring_get_number(&p);

        if (tag < LLM_TAG_EXPIRES) {
            llm_keyring_parse_term(&row->terms, tag, n);
            continue;
        }

        switch (tag) {

        case LLM_TAG_EXPIRES:
            row->expires = (int64_t) n;
            break;

        case LLM_TAG_CREATED:
            row->created = (int64_t) n;
            break;

        case LLM_TAG_UNTIL:
            row->old_until = (int64_t) n;
            break;

        case LLM_TAG_METADATA:
        case LLM_TAG_HINT:
            s = tag == LLM_TAG_HINT ? &row->hint : &row->metadata;
            s->data = (unsigned char *) p;
            s->len = (size_t) n;
            p += n;
            break;

        default:
            tag -= LLM_TAG_RAISE;
            row->raise[tag].value = (int64_t) n;
            row->raise[tag].until = (int64_t) llm_keyring_get_number(&p);
        }
    }

    return LLM_OK;
}


static void
llm_keyring_parse_term(llm_terms_t *terms, unsigned tag, uint64_t n)
{
    char  *at;

    switch (tag) {

    case LLM_TAG_BUDGET:
        terms->budget_micro_usd = (int64_t) (n >> 1);
        terms->budget_month = n & 1;
        break;

    case LLM_TAG_PRIORITY:
        terms->priority = n & 1 ? -(int) (n >> 1) : (int) (n >> 1);
        break;

    default:
        tag -= LLM_TAG_TERM;
        at = (char *) terms + llm_keyring_terms[tag].offset;

        if (llm_keyring_terms[tag].wide) {
            *(int64_t *) (void *) at = (int64_t) n;

        } else {
            *(int *) (void *) at = (int) n;
        }
    }
}


static const unsigned char *
llm_keyring_parse_models(const unsigned char *p, llm_policy_row_t *row,
    llm_arena_t *arena)
{
    unsigned  i;

    row->nmodels = (unsigned) llm_keyring_get_number(&p);

    row->models = llm_arena_alloc(arena, row->nmodels * sizeof(llm_str_t));
    if (row->models == NULL) {
        return NULL;
    }

    for (i = 0; i < row->nmodels; i++) {
        row->models[i].len = (size_t) llm_keyring_get_number(&p);
        row->models[i].data = (unsigned char *) p;
        p += row->models[i].len;
    }

    return p;
}


uint32_t
llm_keyring_hash(llm_row_e kind, const llm_str_t *name)
{
    llm_str_t      s;
    unsigned char  buf[LLM_POLICY_NAME_MAX + 2];

    if (name->len > LLM_POLICY_NAME_MAX) {
        return 0;
    }

    buf[0] = kind == LLM_ROW_KEY ? 'k' : 't';
    buf[1] = ':';
    memcpy(buf + 2, name->data, name->len);

    s.data = buf;
    s.len = name->len + 2;

    return llm_policy_hash(&s);
}
