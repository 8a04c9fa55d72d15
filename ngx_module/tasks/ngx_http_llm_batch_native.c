
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch at its provider: created there once, watched, cancelled.  Each step
 * is written down before the next one is done.
 */


#include "tasks/ngx_http_llm_batch_native.h"
#include "http/ngx_http_llm_match.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_NATIVE_GRACE  600000    /* ms, behind its time */
#define NGX_HTTP_LLM_NATIVE_LIST   "batches?limit=100"


static void ngx_http_llm_native_begin(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_without(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_create(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_send(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_created(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_find(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_found(ngx_http_llm_batch_run_t *run);
static json_t *ngx_http_llm_native_ours(ngx_http_llm_batch_run_t *run,
    json_t *list);
static void ngx_http_llm_native_keep(ngx_http_llm_batch_run_t *run,
    const char *id);
static void ngx_http_llm_native_cancel(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_cancelled(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_look(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_seen(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_runs(ngx_http_llm_batch_run_t *run,
    json_t *root);
static void ngx_http_llm_native_wait(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_ended(ngx_http_llm_batch_run_t *run,
    json_t *root, const char *status);
static void ngx_http_llm_native_failed(ngx_http_llm_batch_run_t *run,
    json_t *root);
static void ngx_http_llm_native_end(ngx_http_llm_batch_run_t *run,
    const char *stop, ngx_str_t *out, ngx_str_t *err);
static json_t *ngx_http_llm_native_answer(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_batch_native_choose(ngx_http_llm_batch_run_t *run,
    ngx_str_t *model, ngx_http_llm_queue_call_t *call)
{
    uint64_t                size;
    ngx_http_llm_route_t   *route;
    ngx_http_llm_target_t  *target;

    route = ngx_http_llm_route(run->todo->mcf, model);

    if (route == NULL || !route->native) {
        return;
    }

    target = route->targets.elts;

    size = run->source.file.bytes
           + (uint64_t) run->check.n * (target->model.len + 3) + 1024;

    if (size > NGX_HTTP_LLM_NATIVE_BYTES) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "llm: the batch \"%V\" is run here: its input is too "
                      "large to be handed to provider \"%V\"", &run->b.id,
                      &target->provider->name);
        return;
    }

    ngx_http_llm_batch_step_text(call, "native", &target->provider->name);

    if (target->model.len) {
        ngx_http_llm_batch_step_text(call, "native_model", &target->model);
    }
}


void
ngx_http_llm_batch_native(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_t  *b;

    b = &run->b;

    run->native = ngx_pcalloc(run->pool, sizeof(ngx_http_llm_batch_native_t));

    if (run->native == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    if (b->native_done || b->ob.state == LLM_BATCH_FINALIZING) {
        ngx_http_llm_native_fetch(run);
        return;
    }

    if (b->native_batch.len == 0) {
        ngx_http_llm_native_begin(run);
        return;
    }

    if (b->now >= b->expires + NGX_HTTP_LLM_NATIVE_GRACE) {
        ngx_http_llm_native_without(run);
        return;
    }

    if (!b->native_cancel && (b->ob.state == LLM_BATCH_CANCELLING
                              || b->now >= b->expires))
    {
        ngx_http_llm_native_cancel(run);
        return;
    }

    ngx_http_llm_native_look(run);
}


/* it is not known to be there yet */

static void
ngx_http_llm_native_begin(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_t  *b;

    b = &run->b;

    if (b->native_try) {

        /* the answer to its creation was lost, perhaps */

        ngx_http_llm_native_find(run);

    } else if (b->ob.state == LLM_BATCH_CANCELLING || b->now >= b->expires) {
        ngx_http_llm_native_without(run);

    } else if (b->native_file.len == 0) {
        ngx_http_llm_native_upload(run);

    } else {
        ngx_http_llm_native_create(run);
    }
}


/* its end, whatever becomes of it there */

static void
ngx_http_llm_native_without(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t  none;

    ngx_str_null(&none);

    ngx_http_llm_native_end(run, run->b.ob.state == LLM_BATCH_CANCELLING
                                 ? NULL : "expired", &none, &none);
}


static void
ngx_http_llm_native_create(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_queue_call_t  call;

    ngx_http_llm_batch_step_begin(run, &call, " in_progress ", "", 0);
    ngx_http_llm_batch_step_number(&call, "native_try", 1);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_native_send);
}


static void
ngx_http_llm_native_send(ngx_http_llm_batch_run_t *run)
{
    u_char                   *p;
    ngx_str_t                 path, value;
    ngx_http_llm_batch_t     *b;
    ngx_http_llm_loopback_t  *lb;

    b = &run->b;

    ngx_str_set(&path, "batches");

    lb = ngx_http_llm_native_call(run, "POST", &path);
    if (lb == NULL) {
        return;
    }

    p = ngx_pnalloc(lb->pool, b->native_file.len + b->endpoint.len
                              + b->window.len + b->id.len + 128);
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    value.data = p;
    value.len = ngx_sprintf(p, "{\"input_file_id\":\"%V\",\"endpoint\":"
                            "\"%V\",\"completion_window\":\"%V\","
                            "\"metadata\":{\"ngx_llm_batch\":\"%V\"}}",
                            &b->native_file, &b->endpoint, &b->window,
                            &b->id)
                - p;

    if (ngx_http_llm_native_header(run, "Idempotency-Key", &b->id) != NGX_OK)
    {
        return;
    }

    ngx_str_set(&path, "application/json");

    if (ngx_http_llm_native_header(run, "Content-Type", &path) == NGX_OK) {
        ngx_http_llm_native_start(run, value.data, value.len,
                                  ngx_http_llm_native_created);
    }
}


static void
ngx_http_llm_native_created(ngx_http_llm_batch_run_t *run)
{
    json_t  *root;

    root = ngx_http_llm_native_answer(run);

    if (root == NULL) {
        if (ngx_http_llm_native_refused(run) != NGX_OK) {
            ngx_http_llm_native_later(run);
        }

        return;
    }

    ngx_http_llm_native_keep(run, json_string_value(
                                      json_object_get(root, "id")));
    json_decref(root);
}


/* is it among the latest ones there? */

static void
ngx_http_llm_native_find(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t  path;

    ngx_str_set(&path, NGX_HTTP_LLM_NATIVE_LIST);

    if (ngx_http_llm_native_call(run, "GET", &path)) {
        ngx_http_llm_native_start(run, NULL, 0, ngx_http_llm_native_found);
    }
}


static void
ngx_http_llm_native_found(ngx_http_llm_batch_run_t *run)
{
    json_t                *root, *found;
    ngx_uint_t             status;
    ngx_http_llm_batch_t  *b;

    b = &run->b;
    status = run->native->lb->status;

    root = ngx_http_llm_native_answer(run);
    found = ngx_http_llm_native_ours(run, json_object_get(root, "data"));

    if (found) {
        ngx_http_llm_native_keep(run, json_string_value(
                                          json_object_get(found, "id")));

    } else if (root == NULL && status != NGX_HTTP_NOT_FOUND
               && status != NGX_HTTP_NOT_ALLOWED)
    {
        ngx_http_llm_native_later(run);

    } else if (b->ob.state == LLM_BATCH_CANCELLING || b->now >= b->expires) {
        ngx_http_llm_native_without(run);

    } else {
        ngx_http_llm_native_send(run);
    }

    json_decref(root);
}


static json_t *
ngx_http_llm_native_ours(ngx_http_llm_batch_run_t *run, json_t *list)
{
    size_t       i;
    json_t      *row;
    ngx_str_t   *id;
    const char  *text;

    id = &run->b.id;

    json_array_foreach(list, i, row) {

        text = json_string_value(json_object_get(
                                     json_object_get(row, "metadata"),
                                     "ngx_llm_batch"));

        if (text && ngx_strlen(text) == id->len
            && ngx_memcmp(text, id->data, id->len) == 0)
        {
            return row;
        }
    }

    return NULL;
}


static void
ngx_http_llm_native_keep(ngx_http_llm_batch_run_t *run, const char *text)
{
    ngx_str_t                  id;
    ngx_http_llm_queue_call_t  call;

    if (ngx_http_llm_native_id(run, text, &id) != NGX_OK) {
        ngx_http_llm_native_later(run);
        return;
    }

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "llm: the batch \"%V\" is \"%V\" of provider \"%V\"",
                  &run->b.id, &id, &run->b.native);

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_text(&call, "native_batch", &id);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


static void
ngx_http_llm_native_cancel(ngx_http_llm_batch_run_t *run)
{
    u_char     *p;
    ngx_str_t   path, *id;

    id = &run->b.native_batch;

    p = ngx_pnalloc(run->pool, id->len + sizeof("batches//cancel"));
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    path.data = p;
    path.len = ngx_sprintf(p, "batches/%V/cancel", id) - p;

    if (ngx_http_llm_native_call(run, "POST", &path)) {
        ngx_http_llm_native_start(run, NULL, 0,
                                  ngx_http_llm_native_cancelled);
    }
}


/* what has ended cannot be cancelled, and is refused */

static void
ngx_http_llm_native_cancelled(ngx_http_llm_batch_run_t *run)
{
    ngx_uint_t                 status;
    ngx_http_llm_loopback_t   *lb;
    ngx_http_llm_queue_call_t  call;

    lb = run->native->lb;
    status = lb->status;

    if (lb->result != NGX_HTTP_LLM_LOOPBACK_OK || status >= 500
        || status == NGX_HTTP_TOO_MANY_REQUESTS)
    {
        ngx_http_llm_native_later(run);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_number(&call, "native_cancel", 1);
    ngx_http_llm_batch_step_number(&call, "native_pause", 0);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


static void
ngx_http_llm_native_look(ngx_http_llm_batch_run_t *run)
{
    u_char     *p;
    ngx_str_t   path, *id;

    id = &run->b.native_batch;

    p = ngx_pnalloc(run->pool, id->len + sizeof("batches/"));
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    path.data = p;
    path.len = ngx_sprintf(p, "batches/%V", id) - p;

    if (ngx_http_llm_native_call(run, "GET", &path)) {
        ngx_http_llm_native_start(run, NULL, 0, ngx_http_llm_native_seen);
    }
}


static void
ngx_http_llm_native_seen(ngx_http_llm_batch_run_t *run)
{
    json_t      *root;
    const char  *status;

    root = ngx_http_llm_native_answer(run);
    status = json_string_value(json_object_get(root, "status"));

    if (status == NULL) {
        ngx_http_llm_native_later(run);

    } else if (ngx_strcmp(status, "failed") == 0) {
        ngx_http_llm_native_failed(run, root);

    } else if (ngx_strcmp(status, "completed") == 0
               || ngx_strcmp(status, "expired") == 0
               || ngx_strcmp(status, "cancelled") == 0)
    {
        ngx_http_llm_native_ended(run, root, status);

    } else {
        ngx_http_llm_native_runs(run, root);
    }

    json_decref(root);
}


static void
ngx_http_llm_native_runs(ngx_http_llm_batch_run_t *run, json_t *root)
{
    int64_t                     done, bad;
    json_t                     *counts;
    ngx_http_llm_batch_t       *b;
    ngx_http_llm_queue_call_t   call;

    b = &run->b;
    counts = json_object_get(root, "request_counts");

    done = json_integer_value(json_object_get(counts, "completed"));
    bad = json_integer_value(json_object_get(counts, "failed"));

    b->native_pause = b->native_pause
                      ? ngx_min(b->native_pause * 3 / 2,
                                (int64_t) run->todo->tcf->poll * 4)
                      : (int64_t) run->todo->tcf->poll;

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_number(&call, "completed", ngx_max(done, 0));
    ngx_http_llm_batch_step_number(&call, "error", ngx_max(bad, 0));
    ngx_http_llm_batch_step_number(&call, "native_pause", b->native_pause);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_native_wait);
}


static void
ngx_http_llm_native_wait(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_end(run, run->b.native_pause);
}


static void
ngx_http_llm_native_ended(ngx_http_llm_batch_run_t *run, json_t *root,
    const char *status)
{
    ngx_uint_t   i;
    ngx_str_t    file[2];
    const char  *text;

    static const char  *name[] = { "output_file_id", "error_file_id" };

    for (i = 0; i < 2; i++) {
        ngx_str_null(&file[i]);

        text = json_string_value(json_object_get(root, name[i]));

        if (text && *text
            && ngx_http_llm_native_id(run, text, &file[i]) != NGX_OK)
        {
            ngx_http_llm_native_later(run);
            return;
        }
    }

    ngx_http_llm_native_end(run, status, &file[0], &file[1]);
}


static void
ngx_http_llm_native_failed(ngx_http_llm_batch_run_t *run, json_t *root)
{
    size_t              i;
    json_t             *list, *row;
    ngx_uint_t          n;
    const char         *text;
    llm_batch_error_t  *err;

    list = json_object_get(json_object_get(root, "errors"), "data");

    n = ngx_min(json_array_size(list), NGX_HTTP_LLM_BATCH_ERRORS);

    if (n == 0) {
        ngx_http_llm_batch_fail(run, "provider_failed",
                                "The provider could not run the batch");
        return;
    }

    err = ngx_pcalloc(run->pool, n * sizeof(llm_batch_error_t));

    if (err == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    for (i = 0; i < n; i++) {
        row = json_array_get(list, i);

        text = json_string_value(json_object_get(row, "code"));
        err[i].code = text ? text : "provider_failed";
        err[i].param = json_string_value(json_object_get(row, "param"));
        err[i].line = json_integer_value(json_object_get(row, "line"));

        text = json_string_value(json_object_get(row, "message"));

        if (text) {
            ngx_http_llm_batch_say(&err[i], text);
        }
    }

    ngx_http_llm_batch_fail_all(run, err, n);
}


/* it has ended there as "status" ("expired", …), NULL: it never began */

static void
ngx_http_llm_native_end(ngx_http_llm_batch_run_t *run, const char *status,
    ngx_str_t *out, ngx_str_t *err)
{
    ngx_uint_t                  cancelling, cancelled;
    ngx_http_llm_queue_call_t   call;

    cancelling = run->b.ob.state == LLM_BATCH_CANCELLING;

    /* by someone else there, or as its time was up here */

    cancelled = status && ngx_strcmp(status, "cancelled") == 0
                && !cancelling && run->b.now < run->b.expires;

    ngx_http_llm_batch_step_begin(run, &call,
                                  cancelling ? " cancelling "
                                             : " in_progress ",
                                  cancelling ? ""
                                  : cancelled ? "cancelling_at"
                                              : "finalizing_at", 0);
    ngx_http_llm_batch_step_number(&call, "native_done", 1);

    if (!cancelling) {
        ngx_http_llm_queue_add_text(&call, "status");
        ngx_http_llm_queue_add_text(&call, cancelled ? "cancelling"
                                                     : "finalizing");
    }

    if (!cancelling && !cancelled && status
        && ngx_strcmp(status, "completed") != 0)
    {
        ngx_http_llm_queue_add_text(&call, "stop");
        ngx_http_llm_queue_add_text(&call, "expired");
    }

    if (out->len) {
        ngx_http_llm_batch_step_text(&call, "native_out", out);
    }

    if (err->len) {
        ngx_http_llm_batch_step_text(&call, "native_err", err);
    }

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


/* a JSON object under a 2xx, or NULL */

static json_t *
ngx_http_llm_native_answer(ngx_http_llm_batch_run_t *run)
{
    json_t                   *root;
    ngx_http_llm_loopback_t  *lb;

    lb = run->native->lb;

    if (lb->result != NGX_HTTP_LLM_LOOPBACK_OK || lb->status < 200
        || lb->status > 299)
    {
        return NULL;
    }

    root = llm_tree_load((char *) lb->answer.data, lb->answer.len, 0, NULL);

    if (!json_is_object(root)) {
        json_decref(root);
        return NULL;
    }

    return root;
}
