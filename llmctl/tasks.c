
/*
 * Copyright (C) the ngx-llm authors
 *
 * The task queue.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


static const char *const  tasks_titles[] = { "TEAM", ">TASKS", NULL };

static const char *const  dead_titles[] = {
    "TASK", "TEAM", "REASON", ">ATTEMPTS", ">DEATHS", "WHEN", NULL
};

static const char *const  tasks_ever[] = {
    "submitted", "completed", "error", "cancelled", NULL
};


static void tasks_counts(text_t *out, json_t *s, const char *const *names);
static void tasks_teams(json_t *teams);
static void dead_row(void *data, json_t *task);


int
tasks_run(args_t *a)
{
    int       rc;
    text_t    out;
    json_t   *s;
    answer_t  answer;

    rc = http_call(a, "GET", "/tasks", NULL, &answer);

    if (rc != CTL_OK || a->values[OPT_JSON] != NULL) {
        http_free(&answer);
        return rc;
    }

    s = answer.json;
    memset(&out, 0, sizeof(out));

    status_line(&out, "tasks");
    tasks_now(&out, s);

    status_line(&out, "room");
    value_count(&out, member_num(s, "queued") + member_num(s, "processing"));
    text_add(&out, " of ");
    value_count(&out, member_num(s, "max"));
    text_add(&out, ", a team ");
    value_count(&out, member_num(s, "team_max"));
    text_add(&out, "; here run ");
    value_count(&out, member_num(s, "running_here"));

    status_line(&out, "ever");
    tasks_counts(&out, s, tasks_ever);
    text_add(&out, ", ");
    value_count(&out, member_num(s, "retries"));
    text_add(&out, " retries");

    text_add(&out, "\n");
    fwrite(out.data + 1, 1, out.len - 1, stdout);
    text_free(&out);

    tasks_teams(json_object_get(s, "teams"));
    http_free(&answer);

    return CTL_OK;
}


/* "12 queued, 3 processing …, the next one for 2 min" */

void
tasks_now(text_t *out, json_t *s)
{
    double  oldest;

    static const char *const  names[] = {
        "queued", "processing", "delayed", "dead", NULL
    };

    tasks_counts(out, s, names);
    oldest = member_num(s, "oldest_ms");

    if (oldest > 0) {
        text_add(out, ", the next one waits for ");
        value_span(out, oldest / 1000);
    }
}


static void
tasks_counts(text_t *out, json_t *s, const char *const *names)
{
    int  i;

    for (i = 0; names[i] != NULL; i++) {
        text_add(out, i != 0 ? ", " : "");
        value_count(out, member_num(s, names[i]));
        text_add(out, " ");
        text_add(out, names[i]);
    }
}


static void
tasks_teams(json_t *teams)
{
    size_t   i;
    json_t  *team;
    table_t  table;

    if (json_array_size(teams) == 0) {
        return;
    }

    table_init(&table, tasks_titles);

    json_array_foreach(teams, i, team) {
        table_text(&table, member_str(team, "team"));
        table_count(&table, member_num(team, "live"));
    }

    printf("\n");
    table_print(&table);
    table_free(&table);
}


int
tasks_dead(args_t *a)
{
    int      rc;
    table_t  table;

    table_init(&table, dead_titles);
    rc = http_list(a, "/tasks/dead", dead_row, &table);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        table_print(&table);
    }

    table_free(&table);

    return rc;
}


static void
dead_row(void *data, json_t *task)
{
    cell_t   *c;
    table_t  *t = data;

    table_text(t, member_str(task, "id"));
    table_text(t, member_str(task, "team"));
    table_text(t, member_str(task, "reason"));
    table_count(t, member_num(task, "attempts"));
    table_count(t, member_num(task, "deaths"));

    c = table_cell(t);
    value_time(&c->text, member_str(task, "time"));
    table_done(c);
}


int
tasks_cancel(args_t *a)
{
    int          rc;
    text_t       path, out;
    answer_t     answer;
    const char  *status;

    memset(&path, 0, sizeof(path));
    text_add(&path, "/tasks/");
    text_escape(&path, a->name);

    rc = http_call(a, "DELETE", path.data, NULL, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        memset(&out, 0, sizeof(out));
        text_show(&out, a->name, 0);
        status = member_str(answer.json, "status");
        fprintf(stderr, "task %s is %s\n", out.data,
                status != NULL && strcmp(status, "cancelling") == 0
                ? "running, and will be stopped" : "cancelled");
        text_free(&out);
    }

    http_free(&answer);
    text_free(&path);

    return rc;
}


int
tasks_purge(args_t *a)
{
    int       rc;
    json_t   *body;
    answer_t  answer;

    body = json_object();

    if (json_object_set_new(body, "team", json_string(a->name)) != 0) {
        json_decref(body);
        return args_wrong(a, "the name is no UTF-8");
    }

    rc = http_call(a, "POST", "/tasks/purge", body, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        fprintf(stderr, "removed: %.0f, running and to be stopped: %.0f\n",
                member_num(answer.json, "removed"),
                member_num(answer.json, "cancelling"));
    }

    http_free(&answer);
    json_decref(body);

    return rc;
}
