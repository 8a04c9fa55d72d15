
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is asked, and which answer that gets.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mock.h"


static uint64_t  request_ids;


static void request_count(conn_t *c);
static void request_action(conn_t *c, int early, buf_t *error);
static int request_refuse(conn_t *c, buf_t *error);
static int request_stored(conn_t *c);
static void request_error(conn_t *c, int64_t status, const char *code,
    const char *message);
static void request_prepare(conn_t *c);
static void request_fixed(conn_t *c);


void
request_path(request_t *r, const http_head_t *head)
{
    size_t       len;
    const char  *query;

    memset(r, 0, sizeof(request_t));

    r->n = 1;
    r->path = head->target;

    query = memchr(r->path.data, '?', r->path.len);

    if (query != NULL) {
        len = (size_t) (query - r->path.data);
        r->query.data = query + 1;
        r->query.len = r->path.len - len - 1;
        r->path.len = len;
    }
}


void
request_endpoint(request_t *r)
{
    span_t  path;

    path = r->path;

    r->endpoint =
        span_ends(path, span("/chat/completions")) ? EP_CHAT
        : span_ends(path, span("/completions")) ? EP_COMPLETIONS
        : span_ends(path, span("/responses")) ? EP_RESPONSES
        : span_ends(path, span("/embeddings")) ? EP_EMBEDDINGS
        : span_ends(path, span("/models")) ? EP_MODELS
        : memmem(path.data, path.len, "/models/", 8) != NULL ? EP_MODELS
        : stored_is(path) ? EP_STORED
        : batch_is(path) ? EP_BATCH
        : EP_UNKNOWN;
}


void
request_json(request_t *r)
{
    span_t       text, value;
    json_iter_t  it;

    text = r->body;

    while (text.len != 0 && strchr(" \n\r\t", text.data[0]) != NULL) {
        text.data++;
        text.len--;
    }

    if (text.len == 0 || text.data[0] != '{') {
        return;
    }

    json_iter(&it, text);

    while (json_next(&it)) {
        if (span_is(it.key, "model") && it.value.data[0] == '"') {
            r->model.data = it.value.data + 1;
            r->model.len = it.value.len - 2;

        } else if (span_is(it.key, "stream")) {
            r->stream = json_true(it.value);

        } else if (span_is(it.key, "n")) {
            r->n = json_int(it.value, 1);

        } else if (span_is(it.key, "stream_options")) {
            r->include_usage = json_find(it.value, "include_usage", &value)
                               && json_true(value);
        }
    }

    r->n = r->n < 1 ? 1 : r->n > 128 ? 128 : r->n;

    value.data = it.pos;
    value.len = (size_t) (text.data + text.len - it.pos);

    while (value.len != 0 && strchr(" \n\r\t", value.data[0]) != NULL) {
        value.data++;
        value.len--;
    }

    if (it.done && value.len == 0) {
        r->json = text;
    }
}


/*
 * Before the body has come: 1 when the answer is to be sent at once; the
 * rules see the head only
 */

int
request_early(conn_t *c)
{
    const span_t  *value;
    buf_t          error;

    value = http_header(&c->head, "x-mock-early");

    if (mock_script->early == 0 && value == NULL) {
        return 0;
    }

    memset(&error, 0, sizeof(buf_t));
    memset(&c->request, 0, sizeof(request_t));

    request_path(&c->request, &c->head);
    request_endpoint(&c->request);

    if (control_is(&c->request)) {
        return 0;
    }

    request_action(c, 1, &error);
    buf_free(&error);

    if (c->answer.act.early != 1) {
        pool_free(&c->answer.pool);
        script_release(c->answer.script);
        c->answer.script = NULL;
        return 0;
    }

    request_count(c);
    c->answer.close = 1;
    c->early = 1;
    c->request.model = span("none");
    c->state = CONN_ANSWER;

    request_prepare(c);
    send_step(c);

    return 1;
}


void
request_start(conn_t *c)
{
    buf_t       error;
    request_t  *r;
    answer_t   *a;

    r = &c->request;
    a = &c->answer;

    c->state = CONN_ANSWER;
    c->control = 0;
    request_endpoint(r);
    request_json(r);

    memset(&error, 0, sizeof(buf_t));
    request_action(c, 0, &error);
    request_count(c);

    if (!a->in_play && error.len == 0 && c->head.keep_alive
        && c->head.minor == 1 && !r->stream && r->n == 1 && r->json.len != 0
        && r->model.len != 0 && mock_key_ok(&c->head) && send_fast(c))
    {
        return;
    }

    if (!request_refuse(c, &error)) {
        limit_apply(c);
        request_prepare(c);
    }

    buf_free(&error);
    send_step(c);
}


static void
request_action(conn_t *c, int early, buf_t *error)
{
    int        headers;
    answer_t  *a;

    a = &c->answer;

    a->script = mock_script;
    a->script->refs++;

    a->rule = mock_script->n == 0 ? -1
              : script_match(mock_script, &c->head, &c->request, early);

    if (a->rule != -1) {
        a->act = mock_script->rules[a->rule].action;

    } else {
        action_init(&a->act);
    }

    headers = action_headers(&a->act, &c->head, &a->pool, error);
    a->in_play = a->rule != -1 || headers != 0;

    if (request_ids == 0) {
        /* no two mocks give the same ids */
        request_ids = (uint64_t) getpid() << 32;
    }

    a->id = ++request_ids;
    a->status = a->act.status >= 0 ? a->act.status : 200;
    a->close = !c->head.keep_alive || a->act.keep_alive == 0;
    a->phase = PHASE_START;
    a->fixed = 0;
    a->sse = 0;
    a->waited = 0;
    a->idled = 0;
    a->event = 0;
    a->sent = 0;
    a->crc = 0;
    a->crc_known = 1;
    a->body.len = 0;
}


static void
request_count(conn_t *c)
{
    mock_stats.requests++;
    mock_stats.in_flight++;

    if (mock_stats.in_flight > mock_stats.max_in_flight) {
        mock_stats.max_in_flight = mock_stats.in_flight;
    }

    journal_begin(c);
    control_wake();
}


/* what is wrong in itself; a script that says what to answer stands above */

static int
request_refuse(conn_t *c, buf_t *error)
{
    int              post, status;
    request_t       *r;
    const action_t  *act;

    r = &c->request;
    act = &c->answer.act;
    post = span_is(c->head.method, "POST");

    if (error->len != 0) {
        buf_add(error, "", 1);
        request_error(c, 400, "mock_script", error->data);

    } else if (!mock_key_ok(&c->head)) {
        request_error(c, 401, NULL, NULL);

    } else if (act->body.data != NULL || act->raw.data != NULL
               || act->status >= 300 || act->garbage >= 0)
    {
        return 0;

    } else if (r->endpoint == EP_UNKNOWN) {
        request_error(c, 404, "unknown_url", "Unknown request URL.");

    } else if (r->endpoint == EP_STORED) {
        return request_stored(c);

    } else if (r->endpoint == EP_BATCH) {
        status = batch_start(c);

        if (status != 0) {
            request_error(c, status, NULL, NULL);
        }

        return status != 0;

    } else if (r->endpoint == EP_MODELS) {
        if (post) {
            request_error(c, 405, "method_not_supported",
                          "Not allowed to POST here.");
            return 1;
        }

        return 0;

    } else if (!post) {
        request_error(c, 405, "method_not_supported",
                      "Only POST is accepted here.");

    } else if (r->json.len == 0) {
        request_error(c, 400, NULL,
                      "We could not parse the JSON body of your request.");

    } else if (r->model.len == 0) {
        request_error(c, 400, "missing_required_parameter",
                      "you must provide a model parameter");

    } else {
        return 0;
    }

    return 1;
}


static int
request_stored(conn_t *c)
{
    int   status;
    char  method[16];

    snprintf(method, sizeof(method), "%.*s", (int) c->head.method.len,
             c->head.method.data);

    status = stored_start(method, &c->request, &c->answer);

    if (status == 405) {
        request_error(c, 405, "method_not_supported", "Not allowed here.");

    } else if (status != 0) {
        request_error(c, 404, NULL, "Response not found.");
    }

    return status != 0;
}


static void
request_error(conn_t *c, int64_t status, const char *code,
    const char *message)
{
    action_t  *act;
    answer_t  *a;

    a = &c->answer;
    act = &a->act;

    action_init(act);

    if (code != NULL) {
        act->error_code = pool_span(&a->pool,
                                    (span_t) { code, strlen(code) });
    }

    if (message != NULL) {
        act->error_message = pool_span(&a->pool,
                                       (span_t) { message, strlen(message) });
    }

    a->status = status;
    a->fixed = 1;
    body_error(&a->body, status, act);
    a->framing = send_framing(c);
}


static void
request_prepare(conn_t *c)
{
    answer_t   *a;
    request_t  *r;
    action_t   *act;

    r = &c->request;
    a = &c->answer;
    act = &a->act;

    /* a cut without a place is one at the start, a place without a kind
       closes */

    if (act->cut >= 0 && act->cut_at == -1 && act->cut_events == -1) {
        act->cut_at = CUT_START;
    }

    if (act->cut < 0) {
        act->cut = CUT_CLOSE;
    }

    answer_content(a);

    a->sse = r->stream && (r->endpoint <= EP_RESPONSES
                           || r->endpoint == EP_STORED)
             && a->status >= 200 && a->status < 300;
    a->fixed = !a->sse || act->body.data != NULL || act->garbage >= 0;

    if (a->fixed) {
        request_fixed(c);
    }

    a->framing = send_framing(c);
}


static void
request_fixed(conn_t *c)
{
    char        byte;
    int64_t     i;
    uint32_t    seed;
    answer_t   *a;
    request_t  *r;

    r = &c->request;
    a = &c->answer;

    if (a->act.before.data != NULL) {
        buf_span(&a->body, a->act.before);
    }

    if (a->act.body.data != NULL) {
        buf_span(&a->body, a->act.body);

    } else if (a->act.garbage >= 0) {
        for (i = 0, seed = 1; i < a->act.garbage; i++) {
            seed = seed * 1664525 + 1013904223;
            byte = (char) (seed >> 24);
            buf_add(&a->body, &byte, 1);
        }

    } else if (a->status < 200 || a->status >= 300) {
        body_error(&a->body, a->status, &a->act);

    } else if (r->endpoint == EP_RESPONSES) {
        body_response(&a->body, r, a,
                      span_is(a->act.finish_reason, "length") ? "incomplete"
                                                              : "completed");
        buf_add(&a->body, "\n", 1);

    } else if (r->endpoint == EP_EMBEDDINGS) {
        body_embeddings(&a->body, r, a);

    } else if (r->endpoint == EP_MODELS) {
        if (!body_models(&a->body, r)) {
            request_error(c, 404, "model_not_found",
                          "The model does not exist.");
        }

    } else if (r->endpoint == EP_STORED) {
        body_stored(&a->body, r, a);

    } else if (r->endpoint == EP_BATCH) {
        body_batch(&a->body);

    } else if (r->endpoint != EP_UNKNOWN) {
        body_answer(&a->body, r, a);
    }

    if (a->act.truncate >= 0 && a->body.len > (size_t) a->act.truncate) {
        a->body.len = (size_t) a->act.truncate;
    }
}
