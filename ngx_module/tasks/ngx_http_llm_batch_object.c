
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch, from its fields in Redis.
 */


#include "tasks/ngx_http_llm_batch_private.h"
#include "http/ngx_http_llm_json.h"


typedef struct {
    ngx_str_t                   name;
    size_t                      offset;
} ngx_http_llm_batch_field_t;


static ngx_http_llm_batch_field_t *ngx_http_llm_batch_field(
    ngx_http_llm_batch_field_t *field, ngx_str_t *name);
static ngx_int_t ngx_http_llm_batch_copy(ngx_pool_t *pool, ngx_str_t *from,
    ngx_str_t *to);
static int64_t ngx_http_llm_batch_number(ngx_str_t *s);
static ngx_int_t ngx_http_llm_batch_tell(ngx_pool_t *pool,
    ngx_http_llm_batch_t *b);
static void ngx_http_llm_batch_tokens(ngx_http_llm_batch_t *b);
static ngx_int_t ngx_http_llm_batch_told(ngx_pool_t *pool,
    ngx_http_llm_batch_t *b);
static char *ngx_http_llm_batch_chars(ngx_pool_t *pool, json_t *value);


#define ngx_http_llm_batch_is(name, member)                                  \
    { ngx_string(name), offsetof(ngx_http_llm_batch_t, member) }

#define ngx_http_llm_batch_null  { ngx_null_string, 0 }


static ngx_http_llm_batch_field_t  ngx_http_llm_batch_texts[] = {
    ngx_http_llm_batch_is("id", id),
    ngx_http_llm_batch_is("team", team),
    ngx_http_llm_batch_is("owner", owner),
    ngx_http_llm_batch_is("endpoint", endpoint),
    ngx_http_llm_batch_is("input", input),
    ngx_http_llm_batch_is("window", window),
    ngx_http_llm_batch_is("status", status),
    ngx_http_llm_batch_is("metadata", metadata),
    ngx_http_llm_batch_is("model", model),
    ngx_http_llm_batch_is("stop", stop),
    ngx_http_llm_batch_is("out", out),
    ngx_http_llm_batch_is("err", err),
    ngx_http_llm_batch_is("tokens", tokens),
    ngx_http_llm_batch_is("errors", errors),
    ngx_http_llm_batch_is("native", native),
    ngx_http_llm_batch_is("native_model", native_model),
    ngx_http_llm_batch_is("native_file", native_file),
    ngx_http_llm_batch_is("native_batch", native_batch),
    ngx_http_llm_batch_is("native_out", native_out),
    ngx_http_llm_batch_is("native_err", native_err),
    ngx_http_llm_batch_null
};


static ngx_http_llm_batch_field_t  ngx_http_llm_batch_numbers[] = {
    ngx_http_llm_batch_is("created_at", created),
    ngx_http_llm_batch_is("expires_at", expires),
    ngx_http_llm_batch_is("in_progress_at", in_progress),
    ngx_http_llm_batch_is("finalizing_at", finalizing),
    ngx_http_llm_batch_is("completed_at", ended[0]),
    ngx_http_llm_batch_is("failed_at", ended[1]),
    ngx_http_llm_batch_is("expired_at", ended[2]),
    ngx_http_llm_batch_is("cancelling_at", cancelling),
    ngx_http_llm_batch_is("cancelled_at", gone),
    ngx_http_llm_batch_is("keep", keep),
    ngx_http_llm_batch_is("lines", lines),
    ngx_http_llm_batch_is("completed", completed),
    ngx_http_llm_batch_is("error", error),
    ngx_http_llm_batch_is("cancelled", cancelled),
    ngx_http_llm_batch_is("fed", fed),
    ngx_http_llm_batch_is("line", line),
    ngx_http_llm_batch_is("chunk", chunk),
    ngx_http_llm_batch_is("offset", offset),
    ngx_http_llm_batch_is("stop_from", stop_from),
    ngx_http_llm_batch_is("stop_to", stop_to),
    ngx_http_llm_batch_is("ok", ok),
    ngx_http_llm_batch_is("bad", bad),
    ngx_http_llm_batch_is("native_try", native_try),
    ngx_http_llm_batch_is("native_cancel", native_cancel),
    ngx_http_llm_batch_is("native_done", native_done),
    ngx_http_llm_batch_is("native_paid", native_paid),
    ngx_http_llm_batch_is("native_pause", native_pause),
    ngx_http_llm_batch_null
};


ngx_int_t
ngx_http_llm_batch_read(ngx_pool_t *pool, ngx_http_llm_redis_reply_t *fields,
    ngx_http_llm_batch_t *b)
{
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   name, value;
    ngx_http_llm_batch_field_t  *field;

    ngx_memzero(b, sizeof(ngx_http_llm_batch_t));

    for (i = 0; i + 1 < fields->nelts; i += 2) {

        if (ngx_http_llm_redis_element(fields, i, &name) != NGX_OK
            || ngx_http_llm_redis_element(fields, i + 1, &value) != NGX_OK
            || name.type != NGX_HTTP_LLM_REDIS_STRING
            || value.type != NGX_HTTP_LLM_REDIS_STRING)
        {
            return NGX_DECLINED;
        }

        field = ngx_http_llm_batch_field(ngx_http_llm_batch_texts, &name.str);

        if (field) {
            if (ngx_http_llm_batch_copy(pool, &value.str, (ngx_str_t *)
                                        ((u_char *) b + field->offset))
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            continue;
        }

        field = ngx_http_llm_batch_field(ngx_http_llm_batch_numbers,
                                         &name.str);

        if (field) {
            *(int64_t *) ((u_char *) b + field->offset)
                                     = ngx_http_llm_batch_number(&value.str);
        }
    }

    return ngx_http_llm_batch_tell(pool, b);
}


static ngx_http_llm_batch_field_t *
ngx_http_llm_batch_field(ngx_http_llm_batch_field_t *field, ngx_str_t *name)
{
    for ( /* void */ ; field->name.len; field++) {

        if (field->name.len == name->len
            && ngx_memcmp(field->name.data, name->data, name->len) == 0)
        {
            return field;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_llm_batch_copy(ngx_pool_t *pool, ngx_str_t *from, ngx_str_t *to)
{
    to->len = from->len;
    to->data = ngx_pstrdup(pool, from);

    return to->data ? NGX_OK : NGX_ERROR;
}


/* 0: it is none */

static int64_t
ngx_http_llm_batch_number(ngx_str_t *s)
{
    off_t  n;

    n = ngx_atoof(s->data, s->len);

    return n == NGX_ERROR ? 0 : n;
}


static ngx_int_t
ngx_http_llm_batch_tell(ngx_pool_t *pool, ngx_http_llm_batch_t *b)
{
    size_t               len;
    ngx_uint_t           i;
    llm_str_t            s;
    const char          *name;
    llm_batch_object_t  *ob;

    ob = &b->ob;

    for (i = 0; i < LLM_BATCH_STATES; i++) {
        name = llm_batch_state_name(i);
        len = ngx_strlen(name);

        if (len == b->status.len
            && ngx_memcmp(name, b->status.data, len) == 0)
        {
            break;
        }
    }

    s.data = b->endpoint.data;
    s.len = b->endpoint.len;

    if (i == LLM_BATCH_STATES
        || llm_batch_endpoint(&s, &ob->endpoint) != LLM_OK
        || b->id.len != sizeof(NGX_HTTP_LLM_BATCH_PREFIX) - 1
                        + NGX_HTTP_LLM_QUEUE_RANDOM)
    {
        return NGX_DECLINED;
    }

    ob->state = i;

    ngx_memcpy(&ob->id, &b->id, sizeof(llm_str_t));
    ngx_memcpy(&ob->model, &b->model, sizeof(llm_str_t));
    ngx_memcpy(&ob->input_file, &b->input, sizeof(llm_str_t));
    ngx_memcpy(&ob->output_file, &b->out, sizeof(llm_str_t));
    ngx_memcpy(&ob->error_file, &b->err, sizeof(llm_str_t));
    ngx_memcpy(&ob->window, &b->window, sizeof(llm_str_t));
    ngx_memcpy(&ob->metadata, &b->metadata, sizeof(llm_str_t));

    ob->created = b->created / 1000;
    ob->in_progress = b->in_progress / 1000;
    ob->expires = b->expires / 1000;
    ob->finalizing = b->finalizing / 1000;
    ob->completed = b->ended[0] / 1000;
    ob->failed = b->ended[1] / 1000;
    ob->expired = b->ended[2] / 1000;
    ob->cancelling = b->cancelling / 1000;
    ob->cancelled = b->gone / 1000;

    /* at its end what stands in the files, before that what has ended */

    ob->total = b->lines;
    ob->succeeded = b->ok + b->bad ? b->ok : b->completed;
    ob->unsuccessful = b->ok + b->bad ? b->bad : b->error;

    ngx_http_llm_batch_tokens(b);

    return b->errors.len ? ngx_http_llm_batch_told(pool, b) : NGX_OK;
}


static void
ngx_http_llm_batch_tokens(ngx_http_llm_batch_t *b)
{
    u_char      *p, *last, *end;
    int64_t      n[4];
    ngx_str_t    s;
    ngx_uint_t   i;

    ngx_memset(n, 0xff, sizeof(n));

    p = b->tokens.data;
    last = p + b->tokens.len;

    for (i = 0; i < 4 && p < last; i++) {
        end = ngx_strlchr(p, last, ' ');
        end = end ? end : last;

        s.data = p;
        s.len = end - p;
        n[i] = ngx_http_llm_batch_number(&s);

        p = end + 1;
    }

    b->ob.input_tokens = i == 4 ? n[0] : -1;
    b->ob.cached_tokens = n[1];
    b->ob.output_tokens = n[2];
    b->ob.reasoning_tokens = n[3];
}


/* cut between characters: half of one would be no JSON */

void
ngx_http_llm_batch_say(llm_batch_error_t *err, const char *text)
{
    size_t  len;

    len = ngx_strlen(text);

    if (len >= sizeof(err->text)) {
        len = sizeof(err->text) - 1;

        while (len && ((u_char) text[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    ngx_memcpy(err->text, text, len);
    err->text[len] = '\0';
}


/* [[code, line, text, param or null], ...] */

ngx_int_t
ngx_http_llm_batch_errors(ngx_pool_t *pool, llm_batch_error_t *err,
    ngx_uint_t n, ngx_str_t *json)
{
    char        *text;
    json_t      *list, *row;
    ngx_int_t    rc;
    ngx_str_t    s;
    ngx_uint_t   i;

    list = json_array();
    rc = NGX_ERROR;

    for (i = 0; i < n; i++) {
        row = json_pack("[s,I,s,s?]", err[i].code, (json_int_t) err[i].line,
                        err[i].text, err[i].param);

        if (json_array_append_new(list, row) != 0) {
            json_decref(list);
            return NGX_ERROR;
        }
    }

    text = ngx_http_llm_json_dump(list, JSON_COMPACT);

    if (text) {
        s.data = (u_char *) text;
        s.len = ngx_strlen(text);

        rc = ngx_http_llm_batch_copy(pool, &s, json);
        free(text);
    }

    json_decref(list);

    return rc;
}


static ngx_int_t
ngx_http_llm_batch_told(ngx_pool_t *pool, ngx_http_llm_batch_t *b)
{
    json_t             *list, *row;
    ngx_int_t           rc;
    ngx_uint_t          i, n;
    const char         *text;
    llm_batch_error_t  *err;

    if (ngx_http_llm_json_load(&b->errors, &list, NULL) == NGX_ERROR) {
        return NGX_ERROR;
    }

    n = ngx_min(json_array_size(list), NGX_HTTP_LLM_BATCH_ERRORS);
    err = ngx_pcalloc(pool, (n + 1) * sizeof(llm_batch_error_t));
    rc = err ? NGX_OK : NGX_ERROR;

    for (i = 0; rc == NGX_OK && i < n; i++) {
        row = json_array_get(list, i);

        err[i].code = ngx_http_llm_batch_chars(pool, json_array_get(row, 0));
        err[i].line = json_integer_value(json_array_get(row, 1));
        err[i].param = ngx_http_llm_batch_chars(pool,
                                                json_array_get(row, 3));
        text = json_string_value(json_array_get(row, 2));

        if (text) {
            ngx_http_llm_batch_say(&err[i], text);
        }

        if (err[i].code == NULL) {
            rc = NGX_DECLINED;
        }
    }

    b->ob.errors = err;
    b->ob.nerrors = n;

    json_decref(list);

    return rc;
}


static char *
ngx_http_llm_batch_chars(ngx_pool_t *pool, json_t *value)
{
    u_char  *p;
    size_t   len;

    if (!json_is_string(value)) {
        return NULL;
    }

    len = json_string_length(value) + 1;

    p = ngx_pnalloc(pool, len);
    if (p) {
        ngx_memcpy(p, json_string_value(value), len);
    }

    return (char *) p;
}
