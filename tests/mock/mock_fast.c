
/*
 * Copyright (C) the ngx-llm authors
 *
 * The precomputed path: an answer that no script touches is a copy.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>

#include "mock.h"


#define TEMPLATES  64
#define IDS_MAX    4
#define ID_ZERO    "mock0000000000000000"


typedef struct {
    endpoint_t     endpoint;
    char           model[64];
    size_t         model_len;
    buf_t          text;
    size_t         body_len;
    size_t         ids;
    size_t         id_at[IDS_MAX];
} template_t;


static template_t  templates[TEMPLATES];
static size_t      templates_next;


static const template_t *fast_template(conn_t *c);
static void fast_make(template_t *t, conn_t *c);


/*
 * The precomputed path: made once per endpoint and model by the ordinary
 * code with the id 0, then copied with the ids filled in; 0: not for this one
 */

int
send_fast(conn_t *c)
{
    char              id[16];
    char             *text;
    size_t            i;
    const template_t *t;

    t = fast_template(c);
    if (t == NULL) {
        return 0;
    }

    for (i = 0; i < 16; i++) {
        id[15 - i] = "0123456789abcdef"[c->answer.id >> (i * 4) & 15];
    }

    buf_reserve(&c->out, t->text.len);
    text = c->out.data + c->out.len;
    memcpy(text, t->text.data, t->text.len);
    c->out.len += t->text.len;

    for (i = 0; i < t->ids; i++) {
        memcpy(text + t->id_at[i], id, 16);
    }

    c->answer.sent = (int64_t) t->body_len;
    c->answer.crc_known = 0;
    c->answer.phase = PHASE_FLUSH;

    send_step(c);

    return 1;
}


static const template_t *
fast_template(conn_t *c)
{
    size_t          i;
    request_t      *r;
    template_t     *t;

    static size_t   last;

    r = &c->request;

    if (r->endpoint > EP_RESPONSES || r->model.len > sizeof(t->model)
        || !span_is(c->head.method, "POST"))
    {
        return NULL;
    }

    for (i = 0; i < TEMPLATES; i++) {
        t = &templates[(last + i) % TEMPLATES];

        if (t->text.len != 0 && t->endpoint == r->endpoint
            && t->model_len == r->model.len
            && memcmp(t->model, r->model.data, r->model.len) == 0)
        {
            last = (last + i) % TEMPLATES;
            return t;
        }
    }

    t = &templates[templates_next++ % TEMPLATES];
    fast_make(t, c);

    return t;
}


static void
fast_make(template_t *t, conn_t *c)
{
    char       *p;
    uint64_t    id;
    answer_t   *a;
    request_t  *r;

    r = &c->request;
    a = &c->answer;

    t->endpoint = r->endpoint;
    t->model_len = r->model.len;
    memcpy(t->model, r->model.data, r->model.len);
    t->text.len = 0;
    t->ids = 0;

    id = a->id;
    a->id = 0;
    a->fixed = 1;
    a->framing = FRAMING_LENGTH;
    answer_content(a);

    if (r->endpoint == EP_RESPONSES) {
        body_response(&a->body, r, a, "completed");
        buf_add(&a->body, "\n", 1);

    } else {
        body_answer(&a->body, r, a);
    }

    send_head(c);
    buf_add(&t->text, c->out.data, c->out.len);
    c->out.len = 0;

    buf_add(&t->text, a->body.data, a->body.len);
    t->body_len = a->body.len;
    a->id = id;

    for (p = t->text.data; t->ids < IDS_MAX; p++) {
        p = memmem(p, (size_t) (t->text.data + t->text.len - p),
                   ID_ZERO, sizeof(ID_ZERO) - 1);

        if (p == NULL) {
            break;
        }

        t->id_at[t->ids++] = (size_t) (p - t->text.data) + 4;
    }
}
