
/*
 * Copyright (C) the ngx-llm authors
 *
 * Files, and batches of their lines.  A batch runs for "batch_ms"; what its
 * lines came to is made when somebody looks at it after that, with the
 * answers that the rules and the usual content give each of them.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mock.h"


#define BATCH_MS     50
#define BATCH_NAMES  64


typedef struct {
    char         id[BATCH_NAMES];
    buf_t        text;
} file_t;


typedef struct {
    char         id[BATCH_NAMES];
    char         key[BATCH_NAMES];      /* of idempotency */
    file_t      *input;
    file_t      *output;
    file_t      *errors;
    buf_t        endpoint;
    buf_t        metadata;              /* JSON */
    uint64_t     since;
    uint64_t     due;
    int64_t      status;                /* BATCH_ */
    int64_t      lines;
    int64_t      done[2];               /* good, bad */
    int          ended;
    int          cancel;                /* 1: told, 2: seen */
} batch_t;


static file_t   **files;
static size_t     files_n;
static batch_t  **batches;
static size_t     batches_n;
static uint64_t   batch_ids;
static buf_t      batch_out;


static int batch_files(conn_t *c, span_t rest, int post);
static int batch_upload(conn_t *c);
static int batch_create(conn_t *c);
static void batch_list(void);
static file_t *file_new(void);
static file_t *file_find(span_t id);
static batch_t *batch_find(span_t id);
static void batch_look(batch_t *b);
static void batch_run(batch_t *b, int64_t lines);
static void batch_line(batch_t *b, span_t line);
static void batch_answer(buf_t *out, conn_t *c);
static void batch_object(batch_t *b);
static int64_t batch_count(const buf_t *text);
static span_t batch_next(const buf_t *text, size_t *at);
static const char *batch_word(const batch_t *b);


/* "/files" or "/batches" at the end of the path, or a slash behind it */

static span_t
batch_rest(span_t path, const char *name)
{
    size_t       len;
    span_t       rest;
    const char  *p, *end;

    rest.data = NULL;
    rest.len = 0;

    len = strlen(name);
    end = path.data + path.len;
    p = memmem(path.data, path.len, name, len);

    if (p != NULL && (p + len == end || p[len] == '/')) {
        rest.data = p + len;
        rest.len = (size_t) (end - rest.data);
    }

    return rest;
}


int
batch_is(span_t path)
{
    return batch_rest(path, "/files").data != NULL
           || batch_rest(path, "/batches").data != NULL;
}


void
body_batch(buf_t *out)
{
    buf_add(out, batch_out.data, batch_out.len);
}


int
batch_start(conn_t *c)
{
    int       post;
    span_t    rest, id;
    batch_t  *b;

    static const char  cancel[] = "/cancel";

    batch_out.len = 0;
    post = span_is(c->head.method, "POST");

    rest = batch_rest(c->request.path, "/files");

    if (rest.data != NULL) {
        return batch_files(c, rest, post);
    }

    rest = batch_rest(c->request.path, "/batches");

    if (rest.len == 0) {
        if (post) {
            return batch_create(c);
        }

        batch_list();
        return 0;
    }

    id.data = rest.data + 1;
    id.len = rest.len - 1;

    if (post && span_ends(id, span(cancel))) {
        id.len -= sizeof(cancel) - 1;

    } else if (post) {
        return 405;
    }

    b = batch_find(id);

    if (b == NULL) {
        return 404;
    }

    batch_look(b);

    if (post) {
        if (b->ended) {
            return 409;
        }

        b->cancel = 1;

    } else if (b->cancel == 1) {
        b->cancel = 2;
        b->ended = 1;
        batch_run(b, b->due > b->since
                     ? (int64_t) ((uint64_t) b->lines
                                  * (loop_now() - b->since)
                                  / (b->due - b->since))
                     : b->lines);
    }

    batch_object(b);
    buf_add(&batch_out, "\n", 1);

    return 0;
}


static int
batch_files(conn_t *c, span_t rest, int post)
{
    int      content;
    span_t   id;
    file_t  *f;

    if (rest.len == 0) {
        return post ? batch_upload(c) : 405;
    }

    if (post) {
        return 405;
    }

    id.data = rest.data + 1;
    id.len = rest.len - 1;

    content = span_ends(id, span("/content"));
    id.len -= content ? sizeof("/content") - 1 : 0;

    f = file_find(id);

    if (f == NULL) {
        return 404;
    }

    if (content) {
        buf_add(&batch_out, f->text.data, f->text.len);
        return 0;
    }

    buf_fmt(&batch_out, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,"
            "\"purpose\":\"batch\",\"status\":\"processed\"}\n", f->id,
            f->text.len);

    return 0;
}


/* the part of the form that is the file; purpose must be "batch" */

static int
batch_upload(conn_t *c)
{
    char           mark[128];
    size_t         n;
    file_t        *f;
    span_t         body;
    const char    *p, *end, *last;
    const span_t  *type;

    body = c->request.body;
    last = body.data + body.len;
    type = http_header(&c->head, "content-type");

    p = type == NULL ? NULL : memmem(type->data, type->len, "boundary=", 9);

    if (p == NULL) {
        return 400;
    }

    n = (size_t) (type->data + type->len - p - 9);

    if (n == 0 || n > sizeof(mark) - 8) {
        return 400;
    }

    snprintf(mark, sizeof(mark), "\r\n--%.*s", (int) n, p + 9);
    n += 4;

    if (memmem(body.data, body.len, "name=\"purpose\"\r\n\r\nbatch\r\n", 25)
        == NULL)
    {
        return 400;
    }

    p = memmem(body.data, body.len, "name=\"file\"", 11);
    p = p == NULL ? NULL : memmem(p, (size_t) (last - p), "\r\n\r\n", 4);

    if (p == NULL) {
        return 400;
    }

    p += 4;
    end = memmem(p, (size_t) (last - p), mark, n);

    if (end == NULL) {
        return 400;
    }

    f = file_new();
    buf_add(&f->text, p, (size_t) (end - p));

    buf_fmt(&batch_out, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,"
            "\"created_at\":%llu,\"filename\":\"mock.jsonl\","
            "\"purpose\":\"batch\",\"status\":\"processed\"}\n", f->id,
            f->text.len, (unsigned long long) mock_created);

    return 0;
}


static int
batch_create(conn_t *c)
{
    size_t         i;
    span_t         value;
    buf_t          id;
    batch_t       *b, **more;
    const span_t  *key;

    memset(&id, 0, sizeof(buf_t));

    if (c->request.json.len == 0
        || !json_find(c->request.json, "input_file_id", &value)
        || json_string(value, &id) != 0)
    {
        return 400;
    }

    key = http_header(&c->head, "idempotency-key");

    for (i = 0; key != NULL && i < batches_n; i++) {
        if (strlen(batches[i]->key) == key->len
            && memcmp(batches[i]->key, key->data, key->len) == 0)
        {
            buf_free(&id);
            batch_object(batches[i]);
            return 0;
        }
    }

    b = calloc(1, sizeof(batch_t));
    more = realloc(batches, (batches_n + 1) * sizeof(batch_t *));

    if (b == NULL || more == NULL) {
        die("out of memory");
    }

    batches = more;

    b->input = file_find((span_t) { id.data, id.len });
    buf_free(&id);

    if (b->input == NULL) {
        free(b);
        return 404;
    }

    batches[batches_n++] = b;
    mock_stats.batches++;

    snprintf(b->id, sizeof(b->id), "batch_mock%llx_%llu",
             (unsigned long long) getpid(),
             (unsigned long long) ++batch_ids);

    if (key != NULL && key->len < sizeof(b->key)) {
        memcpy(b->key, key->data, key->len);
    }

    if (json_find(c->request.json, "endpoint", &value)) {
        (void) json_string(value, &b->endpoint);
    }

    if (json_find(c->request.json, "metadata", &value)) {
        buf_span(&b->metadata, value);
    }

    b->lines = batch_count(&b->input->text);
    b->since = loop_now();
    b->due = b->since + LOOP_MS
             * (uint64_t) (c->answer.act.batch_ms >= 0
                           ? c->answer.act.batch_ms : BATCH_MS);
    b->status = c->answer.act.batch_status;

    batch_object(b);
    buf_add(&batch_out, "\n", 1);

    return 0;
}


/* newest first, all of them */

static void
batch_list(void)
{
    size_t  i;

    buf_str(&batch_out, "{\"object\":\"list\",\"data\":[");

    for (i = batches_n; i > 0; i--) {
        batch_look(batches[i - 1]);
        batch_object(batches[i - 1]);
        buf_str(&batch_out, i > 1 ? "," : "");
    }

    buf_str(&batch_out, "],\"has_more\":false}\n");
}


static file_t *
file_new(void)
{
    file_t  *f, **more;

    f = calloc(1, sizeof(file_t));
    more = realloc(files, (files_n + 1) * sizeof(file_t *));

    if (f == NULL || more == NULL) {
        die("out of memory");
    }

    files = more;

    files[files_n++] = f;

    snprintf(f->id, sizeof(f->id), "file-mock%llx-%zu",
             (unsigned long long) getpid(), files_n);

    return f;
}


static file_t *
file_find(span_t id)
{
    size_t  i;

    for (i = 0; i < files_n; i++) {
        if (strlen(files[i]->id) == id.len
            && memcmp(files[i]->id, id.data, id.len) == 0)
        {
            return files[i];
        }
    }

    return NULL;
}


static batch_t *
batch_find(span_t id)
{
    size_t  i;

    for (i = 0; i < batches_n; i++) {
        if (strlen(batches[i]->id) == id.len
            && memcmp(batches[i]->id, id.data, id.len) == 0)
        {
            return batches[i];
        }
    }

    return NULL;
}


/* its time is over: what it came to */

static void
batch_look(batch_t *b)
{
    if (b->ended || b->cancel || loop_now() < b->due) {
        return;
    }

    b->ended = 1;

    if (b->status == BATCH_FAILED) {
        return;
    }

    batch_run(b, b->status == BATCH_EXPIRED ? b->lines / 2 : b->lines);
}


static void
batch_run(batch_t *b, int64_t lines)
{
    size_t  at;
    span_t  line;

    b->output = file_new();
    b->errors = file_new();

    for (at = 0; lines > 0; lines--) {
        line = batch_next(&b->input->text, &at);

        if (line.data == NULL) {
            break;
        }

        batch_line(b, line);
    }
}


static void
batch_line(batch_t *b, span_t line)
{
    int             bad;
    span_t          id, body, url;
    buf_t          *out, path, answer;
    answer_t       *a;
    http_head_t     head;

    static conn_t   c;

    if (!json_find(line, "custom_id", &id)
        || !json_find(line, "body", &body) || !json_find(line, "url", &url))
    {
        return;
    }

    memset(&c, 0, sizeof(conn_t));
    memset(&head, 0, sizeof(http_head_t));
    memset(&path, 0, sizeof(buf_t));
    memset(&answer, 0, sizeof(buf_t));

    (void) json_string(url, &path);

    a = &c.answer;
    head.method = span("POST");
    head.target = (span_t) { path.data, path.len };

    request_path(&c.request, &head);
    c.request.body = body;
    request_endpoint(&c.request);
    request_json(&c.request);

    a->rule = mock_script->n == 0 ? -1
              : script_match(mock_script, &head, &c.request, 0);

    if (a->rule != -1) {
        a->act = mock_script->rules[a->rule].action;

    } else {
        action_init(&a->act);
    }

    a->id = ((uint64_t) getpid() << 32) + 0x80000000u + ++batch_ids;
    a->status = a->act.status >= 0 ? a->act.status : 200;
    a->sent = 1;
    answer_content(a);

    batch_answer(&answer, &c);

    bad = a->status < 200 || a->status > 299;
    out = bad ? &b->errors->text : &b->output->text;

    buf_fmt(out, "{\"id\":\"batch_req_mock%llu\",\"custom_id\":",
            (unsigned long long) batch_ids);
    buf_span(out, id);
    buf_fmt(out, ",\"response\":{\"status_code\":%lld,\"request_id\":"
            "\"req-mock%llu\",\"body\":", (long long) a->status,
            (unsigned long long) batch_ids);
    buf_add(out, answer.data, answer.len);
    buf_str(out, "},\"error\":null}\n");

    b->done[bad]++;
    mock_stats.batch_lines++;
    usage_count(&mock_stats, &c);

    buf_free(&path);
    buf_free(&answer);
}


static void
batch_answer(buf_t *out, conn_t *c)
{
    answer_t   *a;
    request_t  *r;

    r = &c->request;
    a = &c->answer;

    if (a->act.body.data != NULL) {
        buf_span(out, a->act.body);

    } else if (a->status < 200 || a->status > 299) {
        body_error(out, a->status, &a->act);

    } else if (r->endpoint == EP_RESPONSES) {
        body_response(out, r, a, "completed");

    } else if (r->endpoint == EP_EMBEDDINGS) {
        body_embeddings(out, r, a);

    } else {
        body_answer(out, r, a);
    }

    while (out->len != 0 && out->data[out->len - 1] == '\n') {
        out->len--;
    }
}


static void
batch_object(batch_t *b)
{
    const char  *status;

    status = batch_word(b);

    buf_fmt(&batch_out, "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":",
            b->id);
    buf_json(&batch_out, b->endpoint.data, b->endpoint.len);
    buf_fmt(&batch_out, ",\"input_file_id\":\"%s\","
            "\"completion_window\":\"24h\",\"status\":\"%s\",\"errors\":",
            b->input->id, status);
    buf_str(&batch_out, b->ended && b->status == BATCH_FAILED
                        ? "{\"object\":\"list\",\"data\":[{\"code\":"
                          "\"token_limit_exceeded\",\"line\":2,\"message\":"
                          "\"Enqueued token limit reached.\","
                          "\"param\":null}]}"
                        : "null");

    if (b->done[0] != 0) {
        buf_fmt(&batch_out, ",\"output_file_id\":\"%s\"", b->output->id);
    }

    if (b->done[1] != 0) {
        buf_fmt(&batch_out, ",\"error_file_id\":\"%s\"", b->errors->id);
    }

    buf_fmt(&batch_out, ",\"request_counts\":{\"total\":%lld,"
            "\"completed\":%lld,\"failed\":%lld},\"metadata\":",
            (long long) b->lines, (long long) b->done[0],
            (long long) b->done[1]);

    if (b->metadata.len != 0) {
        buf_add(&batch_out, b->metadata.data, b->metadata.len);

    } else {
        buf_str(&batch_out, "null");
    }

    buf_add(&batch_out, "}", 1);
}


static const char *
batch_word(const batch_t *b)
{
    return b->cancel == 1 ? "cancelling"
           : b->cancel == 2 ? "cancelled"
           : !b->ended ? "in_progress"
           : b->status == BATCH_FAILED ? "failed"
           : b->status == BATCH_EXPIRED ? "expired" : "completed";
}


static int64_t
batch_count(const buf_t *text)
{
    size_t   at;
    int64_t  n;

    for (at = 0, n = 0; batch_next(text, &at).data != NULL; n++) {
        /* void */
    }

    return n;
}


/* the next line that is not empty; data NULL: there is none */

static span_t
batch_next(const buf_t *text, size_t *at)
{
    span_t       line;
    const char  *end;

    do {
        line.data = NULL;
        line.len = 0;

        if (*at >= text->len) {
            return line;
        }

        line.data = text->data + *at;
        end = memchr(line.data, '\n', text->len - *at);
        line.len = end == NULL ? text->len - *at
                               : (size_t) (end - line.data);
        *at += line.len + 1;

    } while (line.len == 0);

    return line;
}
