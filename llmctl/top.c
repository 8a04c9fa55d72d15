
/*
 * Copyright (C) the ngx-llm authors
 *
 * The live view: what is asked for, and the picture of it.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


/* one request of a picture must not keep it waiting for long */
#define TOP_PATIENCE  5000


static int top_live(args_t *a, double interval);
static int top_fetch(top_t *t);
static void top_rates(top_t *t, const top_t *before);
static void top_forget(top_t *t);
static double top_now(void);


int
top_run(args_t *a)
{
    int         rc;
    text_t      out;
    top_t       t;
    int64_t     interval;

    interval = 2;

    if (a->values[OPT_INTERVAL] != NULL
        && (value_read_span(a->values[OPT_INTERVAL], &interval) != 0
            || interval < 1 || interval > 3600))
    {
        return args_wrong(a, "--interval: from 1s to 1h");
    }

    if (a->values[OPT_JSON] != NULL) {
        return args_wrong(a, "top has no --json: see status, slots, breakers"
                          " and usage");
    }

    memset(&t, 0, sizeof(t));
    rc = top_fetch(&t);

    if (rc != CTL_OK) {
        fprintf(stderr, "llmctl: %s\n", http_error.data);
        top_forget(&t);
        return rc;
    }

    if (!isatty(STDOUT_FILENO)) {
        top_rates(&t, NULL);
        memset(&out, 0, sizeof(out));
        top_draw(&t, NULL, &out, 0, 0);
        fwrite(out.data, 1, out.len, stdout);
        text_free(&out);
        top_forget(&t);
        return CTL_OK;
    }

    top_forget(&t);

    return top_live(a, (double) interval);
}


static int
top_live(args_t *a, double interval)
{
    int      rc, columns, lines, known;
    top_t    now, fresh;
    char    *trouble;
    double   next;
    text_t   out;

    (void) a;

    memset(&now, 0, sizeof(now));
    known = 0;
    trouble = NULL;

    screen_open();
    http_watch(screen_quits, TOP_PATIENCE);

    for ( ;; ) {
        next = top_now() + interval;
        rc = top_fetch(&fresh);

        if (screen_quits()) {
            top_forget(&fresh);
            break;
        }

        free(trouble);
        trouble = NULL;

        if (rc == CTL_OK) {
            top_rates(&fresh, known ? &now : NULL);
            top_forget(&now);
            now = fresh;
            known = 1;

        } else {
            top_forget(&fresh);
            trouble = strdup(http_error.data);

            if (rc == CTL_DENIED) {
                break;
            }
        }

        do {
            memset(&out, 0, sizeof(out));
            screen_size(&columns, &lines);
            top_draw(&now, trouble, &out, columns, lines);
            screen_draw(&out);
            text_free(&out);

            rc = screen_wait((int64_t) ((next - top_now()) * 1000));

        } while (rc == 'r');

        if (rc == 'q') {
            rc = CTL_OK;
            break;
        }
    }

    screen_close();

    if (rc == CTL_DENIED) {
        fprintf(stderr, "llmctl: %s\n", trouble);

    } else {
        rc = CTL_OK;
    }

    free(trouble);
    top_forget(&now);

    return rc;
}


static int
top_fetch(top_t *t)
{
    int        rc;
    char       path[128];
    time_t     now;
    json_t    *day;
    struct tm  tm;

    memset(t, 0, sizeof(top_t));

    rc = http_try("GET", "/status", NULL, &t->status);

    if (rc == CTL_OK) {
        rc = http_try("GET", "/slots?limit=1000", NULL, &t->slots);
    }

    if (rc == CTL_OK) {
        rc = http_try("GET", "/breakers?limit=1000", NULL, &t->breakers);
    }

    now = time(NULL);
    gmtime_r(&now, &tm);
    strftime(path, sizeof(path), "/usage?period=day&group_by=team"
             "&buckets=false&from=%Y-%m-%dT00%%3A00%%3A00Z", &tm);

    if (rc == CTL_OK) {
        rc = http_try("GET", path, NULL, &t->usage);
    }

    /* where there is no queue, or no Redis, the rest is shown */

    if (rc == CTL_OK
        && http_try("GET", "/tasks", NULL, &t->tasks) != CTL_OK)
    {
        http_free(&t->tasks);
    }

    t->at = top_now();

    day = json_object_get(t->status.json, "day");
    t->requests = member_num(day, "requests");
    t->tokens = top_tokens(day);

    return rc;
}


/* from one picture to the next; of the last minute while there is but one */

static void
top_rates(top_t *t, const top_t *before)
{
    json_t  *minute;

    if (before != NULL && t->at > before->at
        && t->requests >= before->requests && t->tokens >= before->tokens)
    {
        t->requests_per_s = (t->requests - before->requests)
                            / (t->at - before->at);
        t->tokens_per_s = (t->tokens - before->tokens) / (t->at - before->at);
        return;
    }

    minute = json_object_get(t->status.json, "minute");
    t->requests_per_s = member_num(minute, "requests") / 60;
    t->tokens_per_s = top_tokens(minute) / 60;
}


static void
top_forget(top_t *t)
{
    http_free(&t->status);
    http_free(&t->slots);
    http_free(&t->breakers);
    http_free(&t->usage);
    http_free(&t->tasks);
}


static double
top_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}


double
top_tokens(json_t *sums)
{
    return member_num(sums, "prompt_tokens")
           + member_num(sums, "completion_tokens");
}
