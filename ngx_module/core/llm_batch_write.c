
/*
 * Copyright (C) the ngx-llm authors
 *
 * Output lines, and the objects that tell of batches and files.
 */


#include <string.h>

#include "core/llm_batch.h"
#include "core/llm_batch_text.h"


static void llm_batch_put_errors(llm_batch_text_t *t,
    const llm_batch_object_t *ob);
static void llm_batch_put_stamps(llm_batch_text_t *t,
    const llm_batch_object_t *ob);
static void llm_batch_put_counts(llm_batch_text_t *t,
    const llm_batch_object_t *ob);
static void llm_batch_put_usage(llm_batch_text_t *t,
    const llm_batch_object_t *ob);
static void llm_batch_put_chars(llm_batch_text_t *t, const char *s);


static const char  *llm_batch_states[LLM_BATCH_STATES] = {
    "validating", "failed", "in_progress", "finalizing", "completed",
    "expired", "cancelling", "cancelled"
};


const char *
llm_batch_state_name(llm_batch_state_e state)
{
    return llm_batch_states[state];
}


int
llm_batch_succeeded(const llm_batch_result_t *res)
{
    return res->status >= 200 && res->status < 300;
}


size_t
llm_batch_write_result(unsigned char *buf, size_t size,
    const llm_batch_result_t *res)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "{");
    llm_batch_put_name(&t, "id");
    llm_batch_put_string(&t, &res->id);
    llm_batch_put_name(&t, "custom_id");
    llm_batch_put_string(&t, &res->custom_id);
    llm_batch_put_name(&t, "response");

    if (res->status != 0) {
        llm_batch_put_text(&t, "{\"status_code\":");
        llm_batch_put_number(&t, res->status);
        llm_batch_put_name(&t, "request_id");
        llm_batch_put_string(&t, &res->request_id);
        llm_batch_put_name(&t, "body");
        llm_batch_put_json(&t, &res->body);
        llm_batch_put_text(&t, "},\"error\":null}\n");

        return t.len;
    }

    llm_batch_put_text(&t, "null,\"error\":{\"code\":");
    llm_batch_put_string(&t, &res->code);
    llm_batch_put_name(&t, "message");
    llm_batch_put_string(&t, &res->message);
    llm_batch_put_text(&t, "}}\n");

    return t.len;
}


size_t
llm_batch_write_object(unsigned char *buf, size_t size,
    const llm_batch_object_t *ob)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "{");
    llm_batch_put_name(&t, "id");
    llm_batch_put_string(&t, &ob->id);
    llm_batch_put_name(&t, "object");
    llm_batch_put_text(&t, "\"batch\"");
    llm_batch_put_name(&t, "endpoint");
    llm_batch_put_string(&t, llm_batch_url(ob->endpoint));

    if (ob->model.len != 0) {
        llm_batch_put_name(&t, "model");
        llm_batch_put_string(&t, &ob->model);
    }

    llm_batch_put_name(&t, "errors");
    llm_batch_put_errors(&t, ob);
    llm_batch_put_name(&t, "input_file_id");
    llm_batch_put_string(&t, &ob->input_file);
    llm_batch_put_name(&t, "completion_window");
    llm_batch_put_string(&t, &ob->window);
    llm_batch_put_name(&t, "status");
    llm_batch_put_chars(&t, llm_batch_states[ob->state]);
    llm_batch_put_name(&t, "output_file_id");
    llm_batch_put_maybe(&t, &ob->output_file);
    llm_batch_put_name(&t, "error_file_id");
    llm_batch_put_maybe(&t, &ob->error_file);

    llm_batch_put_stamps(&t, ob);
    llm_batch_put_counts(&t, ob);

    if (ob->input_tokens >= 0) {
        llm_batch_put_usage(&t, ob);
    }

    llm_batch_put_name(&t, "metadata");
    llm_batch_put_json(&t, &ob->metadata);
    llm_batch_put_text(&t, "}");

    return t.len;
}


static void
llm_batch_put_errors(llm_batch_text_t *t, const llm_batch_object_t *ob)
{
    unsigned                  i;
    const llm_batch_error_t  *err;

    if (ob->nerrors == 0) {
        llm_batch_put_text(t, "null");
        return;
    }

    llm_batch_put_text(t, "{\"object\":\"list\",\"data\":[");

    for (i = 0; i < ob->nerrors; i++) {
        err = &ob->errors[i];

        if (i != 0) {
            llm_batch_put_text(t, ",");
        }

        llm_batch_put_text(t, "{\"code\":");
        llm_batch_put_chars(t, err->code);
        llm_batch_put_name(t, "line");

        if (err->line != 0) {
            llm_batch_put_number(t, (int64_t) err->line);

        } else {
            llm_batch_put_text(t, "null");
        }

        llm_batch_put_name(t, "message");
        llm_batch_put_chars(t, err->text);
        llm_batch_put_name(t, "param");

        if (err->param != NULL) {
            llm_batch_put_chars(t, err->param);

        } else {
            llm_batch_put_text(t, "null");
        }

        llm_batch_put_text(t, "}");
    }

    llm_batch_put_text(t, "]}");
}


static void
llm_batch_put_stamps(llm_batch_text_t *t, const llm_batch_object_t *ob)
{
    unsigned  i;

    const struct {
        const char  *name;
        int64_t      sec;
    } times[] = {
        { "created_at", ob->created },
        { "in_progress_at", ob->in_progress },
        { "expires_at", ob->expires },
        { "finalizing_at", ob->finalizing },
        { "completed_at", ob->completed },
        { "failed_at", ob->failed },
        { "expired_at", ob->expired },
        { "cancelling_at", ob->cancelling },
        { "cancelled_at", ob->cancelled }
    };

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        llm_batch_put_name(t, times[i].name);
        llm_batch_put_stamp(t, times[i].sec);
    }
}


static void
llm_batch_put_counts(llm_batch_text_t *t, const llm_batch_object_t *ob)
{
    llm_batch_put_text(t, ",\"request_counts\":{\"total\":");
    llm_batch_put_number(t, (int64_t) ob->total);
    llm_batch_put_name(t, "completed");
    llm_batch_put_number(t, (int64_t) ob->succeeded);
    llm_batch_put_name(t, "failed");
    llm_batch_put_number(t, (int64_t) ob->unsuccessful);
    llm_batch_put_text(t, "}");
}


static void
llm_batch_put_usage(llm_batch_text_t *t, const llm_batch_object_t *ob)
{
    llm_batch_put_text(t, ",\"usage\":{\"input_tokens\":");
    llm_batch_put_number(t, ob->input_tokens);
    llm_batch_put_text(t, ",\"input_tokens_details\":{\"cached_tokens\":");
    llm_batch_put_number(t, ob->cached_tokens);
    llm_batch_put_text(t, "},\"output_tokens\":");
    llm_batch_put_number(t, ob->output_tokens);
    llm_batch_put_text(t, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    llm_batch_put_number(t, ob->reasoning_tokens);
    llm_batch_put_text(t, "},\"total_tokens\":");
    llm_batch_put_number(t, ob->input_tokens + ob->output_tokens);
    llm_batch_put_text(t, "}");
}


static void
llm_batch_put_chars(llm_batch_text_t *t, const char *s)
{
    llm_str_t  str;

    str.len = strlen(s);
    str.data = (unsigned char *) s;

    llm_batch_put_string(t, &str);
}


size_t
llm_batch_write_file(unsigned char *buf, size_t size,
    const llm_batch_file_t *f)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "{");
    llm_batch_put_name(&t, "id");
    llm_batch_put_string(&t, &f->id);
    llm_batch_put_name(&t, "object");
    llm_batch_put_text(&t, "\"file\"");
    llm_batch_put_name(&t, "bytes");
    llm_batch_put_number(&t, (int64_t) f->bytes);
    llm_batch_put_name(&t, "created_at");
    llm_batch_put_number(&t, f->created);

    if (f->expires > 0) {
        llm_batch_put_name(&t, "expires_at");
        llm_batch_put_number(&t, f->expires);
    }

    llm_batch_put_name(&t, "filename");
    llm_batch_put_string(&t, &f->filename);
    llm_batch_put_name(&t, "purpose");
    llm_batch_put_chars(&t, f->purpose);
    llm_batch_put_name(&t, "status");
    llm_batch_put_chars(&t, f->status);
    llm_batch_put_name(&t, "status_details");
    llm_batch_put_text(&t, "null}");

    return t.len;
}


size_t
llm_batch_write_deleted(unsigned char *buf, size_t size, const llm_str_t *id)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "{\"id\":");
    llm_batch_put_string(&t, id);
    llm_batch_put_text(&t, ",\"object\":\"file\",\"deleted\":true}");

    return t.len;
}


size_t
llm_batch_write_list_head(unsigned char *buf, size_t size)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);
    llm_batch_put_text(&t, "{\"object\":\"list\",\"data\":[");

    return t.len;
}


size_t
llm_batch_write_list_tail(unsigned char *buf, size_t size,
    const llm_str_t *first, const llm_str_t *last, int more)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "],\"first_id\":");
    llm_batch_put_maybe(&t, first);
    llm_batch_put_text(&t, ",\"last_id\":");
    llm_batch_put_maybe(&t, last);

    if (more) {
        llm_batch_put_text(&t, ",\"has_more\":true}");

    } else {
        llm_batch_put_text(&t, ",\"has_more\":false}");
    }

    return t.len;
}
