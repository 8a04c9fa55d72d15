
/*
 * Copyright (C) the ngx-llm authors
 *
 * The canonical bytes of a request.  No tree is built: an object whose order carries no
 * meaning is read once to find its members and again, member by member, in
 * the order of their names.  Such objects nest a few levels deep at known
 * places alone, so the work stays linear.
 */


#include <string.h>

#include "core/llm_canon.h"
#include "core/llm_digest.h"
#include "core/llm_json.h"
#include "core/llm_member.h"


#define LLM_DIGEST_DEPTH  8               /* more than any path of kinds */


typedef struct {
    llm_kind_e            kind;
    unsigned              array;
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
static int llm_digest_object(llm_digest_t *d, llm_kind_e kind,
    llm_json_t *js);
static int llm_digest_stream(llm_digest_t *d, llm_json_t *js,
    llm_json_token_e token);


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

    llm_canon_init(&d.canon, sink, data);

    memset(d.frames, 0, sizeof(llm_digest_frame_t));
    d.frames[0].kind = LLM_KIND_TOP;
    d.frames[0].n = n;

    llm_canon_byte(&d.canon, '{');

    do {
        f = &d.frames[d.depth - 1];
        rc = f->array ? llm_digest_element(&d, f) : llm_digest_member(&d, f);
    } while (rc == LLM_OK && d.depth != 0);

    llm_canon_flush(&d.canon);

    ms->n = n;

    return rc;
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
        llm_canon_put(&d->canon, "},", 2);

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

    llm_canon_name(&d->canon, m->name, m->len);

    return llm_digest_value(d, kind, p);
}


/* the next element of an array, or its end */

static int
llm_digest_element(llm_digest_t *d, llm_digest_frame_t *f)
{
    const unsigned char  *p;

    /* the text is valid: what is in between are white space and a comma */

    p = d->pos;

    while (*p <= ' ' || *p == ',') {
        p++;
    }

    if (*p == ']') {
        llm_canon_put(&d->canon, "],", 2);

        d->pos = p + 1;
        d->depth--;

        return LLM_OK;
    }

    return llm_digest_value(d, llm_kind_element(f->kind), p);
}


static int
llm_digest_value(llm_digest_t *d, llm_kind_e kind, const unsigned char *p)
{
    llm_json_t           js;
    llm_json_token_e     token;
    llm_digest_frame_t  *f;

    llm_json_init(&js, p, (size_t) (d->last - p));

    token = llm_json_next(&js);

    if (token == LLM_JSON_OBJECT && llm_kind_sorted(kind)) {
        return llm_digest_object(d, kind, &js);
    }

    if (token == LLM_JSON_ARRAY && llm_kind_element(kind) != LLM_KIND_KEEP) {

        if (d->depth == LLM_DIGEST_DEPTH) {
            return LLM_ERROR;
        }

        llm_canon_byte(&d->canon, '[');

        f = &d->frames[d->depth++];
        f->kind = kind;
        f->array = 1;

        d->pos = js.end;

        return LLM_OK;
    }

    if (token == LLM_JSON_NUMBER) {
        llm_canon_number(&d->canon, &js, kind == LLM_KIND_REAL);
        d->pos = js.end;
        return LLM_OK;
    }

    return llm_digest_stream(d, &js, token);
}


/* finds the members of an object and puts them in order */

static int
llm_digest_object(llm_digest_t *d, llm_kind_e kind, llm_json_t *js)
{
    uint32_t             base;
    llm_member_t        *m;
    llm_json_token_e     token;
    llm_digest_frame_t  *f;

    if (d->depth == LLM_DIGEST_DEPTH) {
        return LLM_ERROR;
    }

    base = d->members->n;

    while (llm_json_next(js) == LLM_JSON_NAME) {

        m = llm_members_push(d->members, js, d->text);
        if (m == NULL) {
            return LLM_ERROR;
        }

        token = llm_json_next(js);

        m->start = (uint32_t) (js->start - d->text);

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            token = llm_json_skip(js);
        }

        if (token == LLM_JSON_ERROR) {
            return LLM_ERROR;
        }

        m->end = (uint32_t) (js->end - d->text);
    }

    if (llm_members_sort(d->members, base) != LLM_OK) {
        return LLM_ERROR;
    }

    llm_canon_byte(&d->canon, '{');

    f = &d->frames[d->depth++];
    f->kind = kind;
    f->array = 0;
    f->base = base;
    f->i = 0;
    f->n = d->members->n - base;
    f->end = js->end;

    return LLM_OK;
}


/* a value as it is written, whatever is in it */

static int
llm_digest_stream(llm_digest_t *d, llm_json_t *js, llm_json_token_e token)
{
    for ( ;; ) {

        switch (token) {

        case LLM_JSON_NAME:
            llm_canon_string(&d->canon, js);
            llm_canon_byte(&d->canon, ':');
            break;

        case LLM_JSON_STRING:
            llm_canon_string(&d->canon, js);
            llm_canon_byte(&d->canon, ',');
            break;

        case LLM_JSON_NUMBER:
            llm_canon_number(&d->canon, js, 0);
            break;

        case LLM_JSON_OBJECT:
        case LLM_JSON_ARRAY:
            llm_canon_byte(&d->canon, *js->start);
            break;

        case LLM_JSON_ERROR:
        case LLM_JSON_END:
            return LLM_ERROR;

        default:
            llm_canon_put(&d->canon, js->start, (size_t) (js->end - js->start));
            llm_canon_byte(&d->canon, ',');
        }

        if (js->depth == 0) {
            d->pos = js->end;
            return LLM_OK;
        }

        token = llm_json_next(js);
    }
}
