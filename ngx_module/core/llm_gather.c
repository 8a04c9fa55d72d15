
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_gather_private.h"
#include "core/llm_sse_private.h"


static int llm_gather_event(llm_gather_t *g, unsigned char *event,
    size_t len);
static int llm_gather_named(const unsigned char *event, size_t len,
    const llm_str_t *data);
static int llm_gather_joined(llm_str_t *data);
static int llm_gather_response(llm_gather_t *g, const llm_str_t *data);
static int llm_gather_output(const llm_str_t *response);
static int llm_gather_answer(llm_gather_t *g, llm_str_t *body);
static int llm_gather_whole(const llm_gather_node_t *top);
static int llm_gather_vendor(llm_gather_t *g);


#define llm_gather_is(js, s)  llm_json_is(js, s, sizeof(s) - 1)


int
llm_gather(llm_endpoint_e endpoint, unsigned char *events, size_t len,
    llm_arena_t *arena, llm_str_t *body, llm_usage_t *usage)
{
    int            rc;
    size_t         n, scan;
    llm_answer_t   an;
    llm_gather_t   g;

    if (endpoint == LLM_EMBEDDINGS || endpoint >= LLM_ENDPOINTS) {
        return LLM_DECLINED;
    }

    memset(&g, 0, sizeof(llm_gather_t));

    g.endpoint = endpoint;
    g.arena = arena;
    g.top.type = LLM_GATHER_OBJECT;
    g.top.place = LLM_GATHER_TOP;

    while (len != 0) {
        scan = 0;
        n = llm_sse_next(events, len, &scan);

        if (n == 0) {
            n = len;                /* the end of a stream ends the last one */
        }

        rc = llm_gather_event(&g, events, n);

        if (rc != LLM_OK) {
            return rc;
        }

        events += n;
        len -= n;
    }

    rc = llm_gather_answer(&g, body);

    if (rc != LLM_OK) {
        return rc;
    }

    llm_answer_scan(&an, endpoint, body->data, body->len);

    if (!an.valid || !an.complete || an.error) {
        return LLM_DECLINED;
    }

    *usage = an.usage;

    return LLM_OK;
}


static int
llm_gather_event(llm_gather_t *g, unsigned char *event, size_t len)
{
    int        rc;
    llm_str_t  data;

    data.len = 0;
    data.data = NULL;

    rc = llm_sse_data(event, len, g->arena, &data);

    if (rc == LLM_ERROR) {
        return LLM_ERROR;
    }

    if ((rc == LLM_DECLINED || llm_gather_named(event, len, &data))
        && (llm_sse_classify(g->endpoint, event, len, NULL, NULL)
            & LLM_SSE_ERROR))
    {
        return LLM_DECLINED;
    }

    if (rc == LLM_DECLINED) {
        return LLM_OK;
    }

    if (g->done) {
        return LLM_DECLINED;
    }

    if (llm_sse_done(&data)) {
        g->done = 1;
        return LLM_OK;
    }

    /* joined lines lie outside the event */

    if ((uintptr_t) data.data < (uintptr_t) event
        || (uintptr_t) data.data >= (uintptr_t) event + len)
    {
        if (llm_gather_joined(&data) != LLM_OK) {
            return LLM_DECLINED;
        }
    }

    if (g->endpoint == LLM_RESPONSES) {
        return llm_gather_response(g, &data);
    }

    return llm_gather_chunk(g, &data);
}


/* is there more than one line of data? */

static int
llm_gather_named(const unsigned char *event, size_t len,
    const llm_str_t *data)
{
    uintptr_t  p, start;

    start = (uintptr_t) event;
    p = (uintptr_t) data->data;

    return *event != 'd' || p < start || p - start > sizeof("data: ") - 1
           || start + len < p + data->len
           || start + len - (p + data->len) > sizeof("\r\n\r\n") - 1;
}


/* line ends may stand between tokens: what is kept must not show them */

static int
llm_gather_joined(llm_str_t *data)
{
    size_t            i, n;
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, data->data, data->len);
    token = llm_json_next(&js);

    if (llm_gather_pass(&js, token, NULL) != LLM_OK
        || llm_json_next(&js) != LLM_JSON_END)
    {
        return LLM_DECLINED;
    }

    n = 0;

    for (i = 0; i < data->len; i++) {
        if (data->data[i] != '\n') {
            data->data[n++] = data->data[i];
        }
    }

    data->len = n;

    return LLM_OK;
}


/* an event of responses: all that counts is the last one's object */

static int
llm_gather_response(llm_gather_t *g, const llm_str_t *data)
{
    int                completed, type;
    unsigned           bits, seen;
    llm_str_t          response, value;
    llm_json_t         js;
    llm_json_token_e   token;

    llm_json_init(&js, data->data, data->len);

    if (g->response.len != 0 || llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_DECLINED;
    }

    response.len = 0;
    bits = 0;
    seen = 0;
    completed = 0;

    while ((token = llm_json_token(&js)) == LLM_JSON_NAME) {

        type = llm_gather_is(&js, "type") ? 1
               : llm_gather_is(&js, "response") ? 2 : 0;

        if (type & seen) {
            return LLM_DECLINED;
        }

        seen |= (unsigned) type;
        token = llm_json_token(&js);

        if (type == 1 && token == LLM_JSON_STRING) {
            completed = llm_gather_is(&js, "response.completed");
            bits = completed ? 0
                   : llm_sse_type(js.start + 1,
                                  (size_t) (js.end - js.start) - 2);
        }

        if (llm_gather_pass(&js, token, &value) != LLM_OK) {
            return LLM_DECLINED;
        }

        if (type == 2 && token == LLM_JSON_OBJECT) {
            response = value;
        }
    }

    if (token != LLM_JSON_OBJECT_END || llm_json_next(&js) != LLM_JSON_END
        || bits != 0)
    {
        return LLM_DECLINED;
    }

    if (!completed) {
        return LLM_OK;
    }

    if (response.len == 0) {
        return LLM_DECLINED;
    }

    g->response = response;

    return llm_gather_output(&response);
}


/* what was made may have come in events of its own only */

static int
llm_gather_output(const llm_str_t *response)
{
    int                found;
    llm_json_t         js;
    llm_json_token_e   token;

    llm_json_init(&js, response->data, response->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_DECLINED;
    }

    while (llm_json_token(&js) == LLM_JSON_NAME) {
        found = llm_gather_is(&js, "output");
        token = llm_json_token(&js);

        if (found) {
            return token == LLM_JSON_ARRAY ? LLM_OK : LLM_DECLINED;
        }

        (void) llm_gather_pass(&js, token, NULL);
    }

    return LLM_DECLINED;
}


static int
llm_gather_answer(llm_gather_t *g, llm_str_t *body)
{
    llm_out_t  out;

    if (g->endpoint == LLM_RESPONSES) {
        *body = g->response;
        return body->len != 0 ? LLM_OK : LLM_DECLINED;
    }

    if (!llm_gather_whole(&g->top)) {
        return LLM_DECLINED;
    }

    if (llm_gather_vendor(g) != LLM_OK) {
        return LLM_ERROR;
    }

    memset(&out, 0, sizeof(llm_out_t));
    llm_gather_write(&out, g->endpoint, &g->top);

    body->data = llm_arena_alloc(g->arena, out.len);

    if (body->data == NULL) {
        return LLM_ERROR;
    }

    body->len = out.len;

    out.pos = body->data;
    llm_gather_write(&out, g->endpoint, &g->top);

    return LLM_OK;
}


/* is there a choice, and has each its finish_reason? */

static int
llm_gather_whole(const llm_gather_node_t *top)
{
    uint32_t                  i;
    const llm_gather_node_t  *choices;

    choices = llm_gather_find(top, LLM_GATHER_CHOICES);

    if (choices == NULL || choices->type != LLM_GATHER_LIST) {
        return 0;
    }

    for (i = 0; i < choices->u.list.n; i++) {
        if (llm_gather_absent(llm_gather_find(choices->u.list.elts[i],
                                              LLM_GATHER_FINISHED)))
        {
            return 0;
        }
    }

    return 1;
}


/* in a stream Groq tells the usage elsewhere than in an answer */

static int
llm_gather_vendor(llm_gather_t *g)
{
    int                 found;
    llm_str_t           value;
    llm_json_t          js;
    llm_json_token_e    token;
    llm_gather_node_t  *usage, *vendor;

    usage = llm_gather_find(&g->top, LLM_GATHER_USAGE);
    vendor = llm_gather_find(&g->top, LLM_GATHER_VENDOR);

    if (!llm_gather_absent(usage) || llm_gather_absent(vendor)) {
        return LLM_OK;
    }

    llm_json_init(&js, vendor->u.raw.data, vendor->u.raw.len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_OK;
    }

    while (llm_json_token(&js) == LLM_JSON_NAME) {
        found = llm_gather_is(&js, "usage");
        token = llm_json_token(&js);

        (void) llm_gather_pass(&js, token, &value);

        if (!found || token != LLM_JSON_OBJECT) {
            continue;
        }

        if (usage == NULL) {
            usage = llm_gather_add(g, &g->top);

            if (usage == NULL) {
                return LLM_ERROR;
            }

            usage->what = LLM_GATHER_USAGE;
        }

        usage->type = LLM_GATHER_RAW;
        usage->u.raw = value;

        return LLM_OK;
    }

    return LLM_OK;
}


int
llm_gather_pass(llm_json_t *js, llm_json_token_e token, llm_str_t *value)
{
    const unsigned char  *start;

    start = js->start;

    if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
        token = llm_json_skip(js);
    }

    if (token == LLM_JSON_ERROR || token == LLM_JSON_END) {
        return LLM_DECLINED;
    }

    if (value != NULL) {
        value->data = (unsigned char *) start;
        value->len = (size_t) (js->end - start);
    }

    return LLM_OK;
}
