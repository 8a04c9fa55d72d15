
/*
 * Copyright (C) the ngx-llm authors
 *
 * What goes on now: status, slots, targets.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


const char *const  breakers_titles[] = {
    "TARGET", "STATE", ">UNTIL", ">RUNNING", ">P50", ">P95", ">LEFT",
    ">RETRIES", ">EJECTED", NULL
};

static const char *const  slots_titles[] = {
    "KIND", "NAME", ">IN USE", ">OF", ">WAITING", NULL
};


static void breakers_row(void *data, json_t *target);
static void slots_row(void *data, json_t *slot);
static void status_text(text_t *out, const char *s);
static void status_sums(text_t *out, const char *name, json_t *sums);


int
breakers_run(args_t *a)
{
    int      rc;
    table_t  table;

    table_init(&table, breakers_titles);
    rc = http_list(a, "/breakers", breakers_row, &table);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        table_print(&table);
    }

    table_free(&table);

    return rc;
}


static void
breakers_row(void *data, json_t *target)
{
    breakers_table(data, target);
}


void
breakers_table(table_t *t, json_t *target)
{
    double       running, most, left;
    cell_t      *c;
    json_t      *first;
    const char  *state, *until;

    state = member_str(target, "state");
    until = member_str(target, "until");
    first = json_object_get(target, "first_ms");

    table_text(t, member_str(target, "name"));

    c = table_cell(t);

    if (until == NULL && member_str(target, "cooling_until") != NULL) {
        until = member_str(target, "cooling_until");
        c->style = STYLE_WARN;
        text_add(&c->text, "cooling");

    } else {
        text_show(&c->text, state != NULL ? state : "-", 0);
        c->style = state == NULL ? STYLE_NONE
                   : strcmp(state, "closed") == 0 ? STYLE_GOOD
                   : strcmp(state, "open") == 0 ? STYLE_BAD : STYLE_WARN;
    }

    c->width = text_width(c->text.data);

    /* the day goes without saying */

    c = table_cell(t);

    if (until != NULL && value_iso(until) != -1) {
        text_printf(&c->text, "%.8s", until + 11);

    } else {
        text_show(&c->text, until != NULL ? until : "-", 0);
    }

    c->width = text_width(c->text.data);

    running = member_num(target, "running");
    most = member_num(target, "most");
    c = table_cell(t);
    value_count(&c->text, running);

    if (!isnan(most)) {
        text_add(&c->text, "/");
        value_count(&c->text, most);
    }

    table_done(c);

    c = table_cell(t);
    value_ms(&c->text, member_num(first, "p50"));
    table_done(c);

    c = table_cell(t);
    value_ms(&c->text, member_num(first, "p95"));
    table_done(c);

    left = member_num(json_object_get(target, "requests"), "remaining");
    table_count(t, left);
    table_count(t, member_num(target, "retries"));
    table_count(t, member_num(target, "ejections"));
}


int
breakers_reset(args_t *a)
{
    int       rc;
    json_t   *body;
    answer_t  answer;

    if ((a->name != NULL) == (a->values[OPT_ALL] != NULL)) {
        return args_wrong(a, "a TARGET or --all");
    }

    body = json_object();

    if (json_object_set_new(body, a->name != NULL ? "name" : "all",
                            a->name != NULL ? json_string(a->name)
                                            : json_true()) != 0)
    {
        json_decref(body);
        return args_wrong(a, "the name is no UTF-8");
    }

    rc = http_call(a, "POST", "/breakers/reset", body, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        fprintf(stderr, "targets reset: %.0f\n",
                member_num(answer.json, "reset"));
    }

    http_free(&answer);
    json_decref(body);

    return rc;
}


int
slots_run(args_t *a)
{
    int      rc;
    table_t  table;

    table_init(&table, slots_titles);
    rc = http_list(a, "/slots", slots_row, &table);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        table_print(&table);
    }

    table_free(&table);

    return rc;
}


static void
slots_row(void *data, json_t *slot)
{
    double    waiting;
    cell_t   *c;
    table_t  *t = data;

    waiting = member_num(slot, "waiting");

    table_text(t, member_str(slot, "kind"));
    table_text(t, member_str(slot, "name"));
    table_count(t, member_num(slot, "in_use"));
    table_count(t, member_num(slot, "concurrency"));

    c = table_cell(t);
    c->style = waiting > 0 ? STYLE_WARN : STYLE_NONE;
    value_count(&c->text, waiting);
    table_done(c);
}


int
status_run(args_t *a)
{
    int          rc;
    text_t       out;
    json_t      *s, *part;
    answer_t     answer;
    const char  *redis;

    rc = http_call(a, "GET", "/status", NULL, &answer);

    if (rc != CTL_OK || a->values[OPT_JSON] != NULL) {
        http_free(&answer);
        return rc;
    }

    s = answer.json;
    memset(&out, 0, sizeof(out));

    status_line(&out, "gateway");
    status_text(&out, member_str(s, "version"));
    text_add(&out, ", nginx ");
    status_text(&out, member_str(s, "nginx"));
    text_add(&out, ", workers ");
    value_count(&out, member_num(s, "workers"));

    status_line(&out, "started");
    value_time(&out, member_str(s, "started"));

    status_line(&out, "redis");
    redis = member_str(s, "redis");
    redis = redis != NULL ? redis : "-";
    style_begin(&out, strcmp(redis, "down") == 0 ? STYLE_BAD : STYLE_NONE);
    text_show(&out, redis, 0);
    style_end(&out, strcmp(redis, "down") == 0 ? STYLE_BAD : STYLE_NONE);

    part = json_object_get(s, "policy");
    status_line(&out, "keys");
    value_count(&out, member_num(part, "file_keys"));
    text_add(&out, " of the file, ");
    value_count(&out, member_num(part, "admin_keys"));
    text_add(&out, " made here; teams ");
    value_count(&out, member_num(part, "teams"));

    part = json_object_get(s, "requests");
    status_line(&out, "requests");
    text_add(&out, "running ");
    value_count(&out, member_num(part, "running"));
    text_add(&out, ", waiting ");
    value_count(&out, member_num(part, "waiting"));

    part = json_object_get(s, "cache");

    if (json_is_object(part)) {
        status_line(&out, "cache");
        value_count(&out, member_num(part, "entries"));
        text_add(&out, " answers, ");
        value_bytes(&out, member_num(part, "bytes"));
        text_add(&out, " of ");
        value_bytes(&out, member_num(part, "size_bytes"));
        text_add(&out, ", hit ratio ");
        value_ratio(&out, member_num(part, "hits"),
                    member_num(part, "hits") + member_num(part, "misses"));
    }

    status_sums(&out, "minute", json_object_get(s, "minute"));
    status_sums(&out, "today", json_object_get(s, "day"));
    status_sums(&out, "month", json_object_get(s, "month"));

    text_add(&out, "\n");
    fwrite(out.data + 1, 1, out.len - 1, stdout);

    text_free(&out);
    http_free(&answer);

    return CTL_OK;
}


void
status_line(text_t *out, const char *name)
{
    text_add(out, "\n");
    style_begin(out, STYLE_DIM);
    text_printf(out, "%-10s", name);
    style_end(out, STYLE_DIM);
}


static void
status_text(text_t *out, const char *s)
{
    text_show(out, s != NULL ? s : "-", 0);
}


static void
status_sums(text_t *out, const char *name, json_t *sums)
{
    status_line(out, name);
    value_count(out, member_num(sums, "requests"));
    text_add(out, " requests, ");
    value_count(out, member_num(sums, "errors"));
    text_add(out, " errors, ");
    value_count(out, member_num(sums, "prompt_tokens"));
    text_add(out, " + ");
    value_count(out, member_num(sums, "completion_tokens"));
    text_add(out, " tokens, ");
    value_usd(out, member_num(sums, "usd"));
}
