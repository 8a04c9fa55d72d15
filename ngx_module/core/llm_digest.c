
/*
 * Copyright (C) the ngx-llm authors
 *
 * The canonical bytes of a request.  No tree is built: an object whose order
 * carries no meaning is looked through once for its members and then written
 * member by member in the order of their names.  Such objects nest a few
 * levels deep at known places alone, so the work stays linear.
 */


#include <string.h>

#include "core/llm_canon.h"
#include "core/llm_digest.h"
#include "core/llm_member.h"


#define LLM_DIGEST_DEPTH  8               /* more than any path of kinds */


typedef struct {
    llm_kind_e            kind;
    unsigned              array:1;
    unsigned              some:1;         /* a comma must come first */
    uint32_t              base;           /* of its members on the stack */
    uint32_t              i;
    uint32_t              n;
    const unsigned char  *end;            /* of the object */
} llm_digest_frame_t;


typedef struct {
    const unsigned char  *text;
    const unsigned char  *last;
    const unsigned char  *pos;            /* behind the value written last */
    llm_members_t        *members;

    unsigned              depth;
    llm_digest_frame_t    frames[LLM_DIGEST_DEPTH];

    llm_canon_t           canon;
} llm_digest_t;


static int llm_digest_member(llm_digest_t *d, llm_digest_frame_t *f);
static int llm_digest_element(llm_digest_t *d, llm_digest_frame_t *f);
static int llm_digest_value(llm_digest_t *d, llm_kind_e kind,
    const unsigned char *p);
static int llm_digest_object(llm_digest_t *d, llm_digest_frame_t *f,
    const unsigned char *p);


int
llm_request_digest(const llm_request_t *rq, llm_arena_t *arena,
    llm_sink_pt sink, void *data)
{
    int                  rc;
    uint32_t             n;
    llm_digest_t         d;
    llm_members_t       *ms;
    llm_digest_frame_t  *f;

    ms = rq->index;

    if (ms == NULL) {
        return LLM_ERROR;
    }

    n = ms->n;
    ms->arena = arena;

    if (llm_members_sort(ms, 0) != LLM_OK) {
        return LLM_ERROR;
    }

    d.text = rq->body.data;
    d.last = rq->body.data + rq->body.len;
    d.pos = d.text;
    d.members = ms;
    d.depth = 1;

    memset(d.frames, 0, sizeof(llm_digest_frame_t));
    d.frames[0].kind = LLM_KIND_TOP;
    d.frames[0].n = n;
    d.frames[0].end = d.last;

    llm_canon_init(&d.canon, d.last, sink, data);
    llm_canon_byte(&d.canon, '{');

    do {
        f = &d.frames[d.depth - 1];
        rc = f->array ? llm_digest_element(&d, f) : llm_digest_member(&d, f);
    } while (rc == LLM_OK && d.depth != 0);

    llm_canon_flush(&d.canon);

    ms->n = n;

    return rc;
}


static inline const unsigned char *
llm_digest_space(const unsigned char *p)
{
    /* the text is valid: nothing else is that small outside of strings */

    while (*p <= ' ') {
        p++;
    }

    return p;
}


/* the next member of an object, or its end */

static int
llm_digest_member(llm_digest_t *d, llm_digest_frame_t *f)
{
    int                   null;
    llm_kind_e            kind;
    const llm_member_t   *m;
    const unsigned char  *p;

    if (f->i == f->n) {
        llm_canon_byte(&d->canon, '}');

        d->members->n = f->base;
        d->pos = f->end;
        d->depth--;

        return LLM_OK;
    }

    m = &d->members->elts[f->base + f->i++];
    p = d->text + m->start;

    kind = llm_kind_member(f->kind, m->name, m->len, &null);

    if (kind == LLM_KIND_DROP || (null && *p == 'n')) {
        return LLM_OK;
    }

    if (f->some) {
        llm_canon_byte(&d->canon, ',');
    }

    f->some = 1;

    if (m->name == d->text + m->at + 1) {

        /* no escapes: it is canonical as it stands in the text */

        llm_canon_put(&d->canon, d->text + m->at, (size_t) m->len + 2);
        llm_canon_byte(&d->canon, ':');

    } else {
        llm_canon_name(&d->canon, m->name, m->len);
    }

    return llm_digest_value(d, kind, p);
}


/* the next element of an array, or its end */

static int
llm_digest_element(llm_digest_t *d, llm_digest_frame_t *f)
{
    const unsigned char  *p;

    p = llm_digest_space(d->pos);

    if (*p == ']') {
        llm_canon_byte(&d->canon, ']');

        d->pos = p + 1;
        d->depth--;

        return LLM_OK;
    }

    if (f->some) {
        llm_canon_byte(&d->canon, ',');
        p = llm_digest_space(p + 1);
    }

    f->some = 1;

    return llm_digest_value(d, llm_kind_element(f->kind), p);
}


static int
llm_digest_value(llm_digest_t *d, llm_kind_e kind, const unsigned char *p)
{
    llm_digest_frame_t  *f;

    if (d->depth == LLM_DIGEST_DEPTH) {
        return LLM_ERROR;
    }

    f = &d->frames[d->depth];

    if (*p == '{' && llm_kind_sorted(kind)) {
        f->kind = kind;

        return llm_digest_object(d, f, p);
    }

    if (*p == '[' && llm_kind_element(kind) != LLM_KIND_KEEP) {
        f->kind = kind;
        f->array = 1;
        f->some = 0;

        llm_canon_byte(&d->canon, '[');

        d->pos = p + 1;
        d->depth++;

        return LLM_OK;
    }

    if (kind == LLM_KIND_REAL && *p <= '9' && *p != '"') {
        d->pos = llm_canon_real(&d->canon, p);
        return LLM_OK;
    }

    d->pos = llm_canon_value(&d->canon, p);

    return LLM_OK;
}


/* finds the members of an object and puts them in order */

static int
llm_digest_object(llm_digest_t *d, llm_digest_frame_t *f,
    const unsigned char *p)
{
    int                   escaped;
    uint32_t              base;
    llm_member_t         *m;
    const unsigned char  *end;

    base = d->members->n;

    for ( ;; ) {
        p = llm_digest_space(p + 1);                /* behind a { or comma */

        if (*p == '}') {
            break;
        }

        end = llm_canon_skip_string(p, d->last);
        escaped = memchr(p, '\\', (size_t) (end - p)) != NULL;

        m = llm_members_push(d->members, d->text, p, end, escaped);
        if (m == NULL) {
            return LLM_ERROR;
        }

        p = llm_digest_space(end);
        p = llm_digest_space(p + 1);                /* behind the colon */
        m->start = (uint32_t) (p - d->text);

        p = llm_canon_skip(p, d->last);
        m->end = (uint32_t) (p - d->text);

        p = llm_digest_space(p);

        if (*p == '}') {
            break;
        }
    }

    if (llm_members_sort(d->members, base) != LLM_OK) {
        return LLM_ERROR;
    }

    llm_canon_byte(&d->canon, '{');

    f->array = 0;
    f->some = 0;
    f->base = base;
    f->i = 0;
    f->n = d->members->n - base;
    f->end = p + 1;

    d->depth++;

    return LLM_OK;
}
