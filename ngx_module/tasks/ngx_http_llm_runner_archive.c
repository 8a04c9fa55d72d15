
/*
 * Copyright (C) the ngx-llm authors
 *
 * The archive: one line of JSON for each task that has ended here, in one
 * write, so that lines of several workers do not mix.
 */


#include "tasks/ngx_http_llm_runner_private.h"

#include "core/llm_json.h"


#define NGX_HTTP_LLM_RUNNER_LINE  512          /* beside the texts */


static u_char *ngx_http_llm_runner_line(u_char *p,
    ngx_http_llm_runner_task_t *task);
static u_char *ngx_http_llm_runner_text(u_char *p, const char *name,
    ngx_str_t *s);
static u_char *ngx_http_llm_runner_json(u_char *p, const char *name,
    ngx_str_t *s);
static size_t ngx_http_llm_runner_escaped(ngx_str_t *s);


void
ngx_http_llm_runner_archive(ngx_http_llm_runner_task_t *task)
{
    size_t                  len;
    u_char                 *line, *p;
    ngx_open_file_t        *file;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;
    file = rn->tcf->archive;

    if (file == NULL || file->fd == NGX_INVALID_FILE) {
        return;
    }

    /* a byte of text has six in JSON at most */

    len = NGX_HTTP_LLM_RUNNER_LINE
          + ngx_http_llm_runner_escaped(&task->id)
          + ngx_http_llm_runner_escaped(&task->team)
          + ngx_http_llm_runner_escaped(&task->owner)
          + ngx_http_llm_runner_escaped(&task->error)
          + ngx_http_llm_runner_escaped(&task->answer);

    line = ngx_alloc(len, rn->log);
    if (line == NULL) {
        return;
    }

    p = ngx_http_llm_runner_line(line, task);

    len = p - line;

    if (ngx_write_fd(file->fd, line, len) != (ssize_t) len) {
        ngx_log_error(NGX_LOG_CRIT, rn->log, ngx_errno,
                      "llm tasks: writing to the archive \"%V\" failed, "
                      "task \"%V\" is not in it as a whole", &file->name,
                      &task->id);
    }

    ngx_free(line);
}


static u_char *
ngx_http_llm_runner_line(u_char *p, ngx_http_llm_runner_task_t *task)
{
    int64_t    now;
    ngx_str_t  state;

    static ngx_str_t  states[] = {
        ngx_string("completed"),
        ngx_string("error"),
        ngx_string("cancelled")
    };

    state = states[task->outcome];
    now = ngx_http_llm_runner_wall();

    *p++ = '{';
    p = ngx_http_llm_runner_text(p, "id", &task->id);
    p = ngx_http_llm_runner_text(p, ",team", &task->team);

    if (task->owner.len) {
        p = ngx_http_llm_runner_text(p, ",owner", &task->owner);
    }

    p = ngx_http_llm_runner_text(p, ",state", &state);

    if (task->created) {
        p = ngx_sprintf(p, ",\"created\":%L.%03L", task->created / 1000,
                        task->created % 1000);
    }

    p = ngx_sprintf(p, ",\"finished\":%L.%03L", now / 1000, now % 1000);

    if (task->attempt) {
        p = ngx_sprintf(p, ",\"attempts\":%ui", task->attempt);
    }

    if (task->status) {
        p = ngx_sprintf(p, ",\"status\":%ui", task->status);
    }

    if (task->outcome == NGX_HTTP_LLM_TASK_COMPLETED) {
        p = ngx_http_llm_runner_json(p, ",result", &task->answer);

    } else if (task->error.len) {
        p = ngx_http_llm_runner_json(p, ",error", &task->error);
    }

    *p++ = '}';
    *p++ = '\n';

    return p;
}


/* a comma in front of the name stands in front of its quote */

static u_char *
ngx_http_llm_runner_text(u_char *p, const char *name, ngx_str_t *s)
{
    if (*name == ',') {
        *p++ = ',';
        name++;
    }

    p = ngx_sprintf(p, "\"%s\":\"", name);
    p = (u_char *) ngx_escape_json(p, s->data, s->len);
    *p++ = '"';

    return p;
}


/* JSON as it is, on one line; what is none as a string */

static u_char *
ngx_http_llm_runner_json(u_char *p, const char *name, ngx_str_t *s)
{
    size_t  i;

    if (!llm_json_valid(s->data, s->len)) {
        return ngx_http_llm_runner_text(p, name, s);
    }

    p = ngx_sprintf(p, ",\"%s\":", name + 1);

    /* between tokens they are blanks, and inside of them there are none */

    for (i = 0; i < s->len; i++) {
        *p++ = s->data[i] == CR || s->data[i] == LF ? ' ' : s->data[i];
    }

    return p;
}


static size_t
ngx_http_llm_runner_escaped(ngx_str_t *s)
{
    return s->len + ngx_escape_json(NULL, s->data, s->len);
}
