
/*
 * Copyright (C) the ngx-llm authors
 *
 * Teams: what they may, used and have left.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


static const char *const  team_titles[] = {
    "NAME", "SOURCE", ">KEYS", ">REQUESTS", ">TOKENS", ">TODAY", ">MONTH",
    ">BUDGET", ">SPENT", ">FORECAST", NULL
};

/* what a team has besides the members of the file */

static const char *const  team_derived[] = {
    "object", "name", "source", "shadowed", "keys", "day", "month", "spend",
    "effective", "created", NULL
};


static void team_row(void *data, json_t *team);
static int team_read(const args_t *a, const char *path, json_t **members);
static int team_write(const args_t *a, const char *path, json_t *members);


int
team_list(args_t *a)
{
    int      rc;
    table_t  table;

    table_init(&table, team_titles);
    rc = http_list(a, "/teams", team_row, &table);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        table_sort(&table);
        table_print(&table);
    }

    table_free(&table);

    return rc;
}


static void
team_row(void *data, json_t *team)
{
    double       budget, spent, ratio;
    cell_t      *c;
    json_t      *day, *month, *spend;
    table_t     *t = data;
    const char  *period;

    day = json_object_get(team, "day");
    month = json_object_get(team, "month");
    spend = json_object_get(team, "spend");

    table_text(t, member_str(team, "name"));
    table_text(t, member_flag(team, "shadowed") ? "shadowed"
                                              : member_str(team, "source"));
    table_count(t, member_num(team, "keys"));
    table_count(t, member_num(day, "requests"));
    table_count(t, member_num(day, "prompt_tokens")
                   + member_num(day, "completion_tokens"));
    table_usd(t, member_num(day, "usd"));
    table_usd(t, member_num(month, "usd"));

    budget = member_num(spend, "budget_usd");
    spent = member_num(spend, "usd");
    period = member_str(spend, "period");

    c = table_cell(t);
    value_usd(&c->text, budget);

    if (!isnan(budget) && period != NULL) {
        text_add(&c->text, "/");
        text_show(&c->text, period, 16);
    }

    c->width = text_width(c->text.data);

    c = table_cell(t);
    ratio = spent / budget;
    c->style = ratio >= 1 ? STYLE_BAD : ratio >= 0.8 ? STYLE_WARN : STYLE_NONE;
    value_ratio(&c->text, spent, budget);
    table_done(c);

    c = table_cell(t);
    value_usd(&c->text, member_num(spend, "forecast_usd"));
    c->style = member_num(spend, "forecast_usd") > budget ? STYLE_WARN
                                                        : STYLE_NONE;
    table_done(c);
}


int
team_show(args_t *a)
{
    static const char *const  skip[] = { "object", NULL };

    int       rc;
    text_t    path;
    answer_t  answer;

    memset(&path, 0, sizeof(path));
    text_add(&path, "/teams/");
    text_escape(&path, a->name);

    rc = http_call(a, "GET", path.data, NULL, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        show_object(answer.json, skip);
    }

    http_free(&answer);
    text_free(&path);

    return rc;
}


/* the API takes a team as a whole: what is not named is kept by reading it */

int
team_set(args_t *a)
{
    int      rc;
    text_t   path;
    json_t  *members;

    memset(&path, 0, sizeof(path));
    text_add(&path, "/teams/");
    text_escape(&path, a->name);

    rc = team_read(a, path.data, &members);

    if (rc == CTL_OK) {
        rc = team_write(a, path.data, members);
    }

    text_free(&path);
    json_decref(members);

    return rc;
}


static int
team_read(const args_t *a, const char *path, json_t **members)
{
    int          rc;
    json_t      *value;
    void        *next;
    answer_t     answer;
    const char  *name;

    *members = json_object();

    /* what is wrong is found before anything is asked */

    rc = members_read(a, *members, 1);

    if (rc != CTL_OK || a->values[OPT_REPLACE] != NULL) {
        return rc;
    }

    rc = http_try("GET", path, NULL, &answer);

    if (answer.status == 404 && rc == CTL_REFUSED) {
        http_free(&answer);
        return CTL_OK;
    }

    if (rc != CTL_OK) {
        fprintf(stderr, "llmctl: %s\n", http_error.data);
        http_free(&answer);
        return rc;
    }

    json_object_clear(*members);

    json_object_foreach_safe(answer.json, next, name, value) {
        json_object_set(*members, name, value);
    }

    for (const char *const *s = team_derived; *s != NULL; s++) {
        json_object_del(*members, *s);
    }

    http_free(&answer);

    /* a budget that is there keeps its period */

    value = json_incref(json_object_get(*members, "budget"));
    rc = members_read(a, *members, value == NULL || json_is_null(value));

    if (json_is_object(value) && a->values[OPT_BUDGET] != NULL) {
        json_object_update_missing(json_object_get(*members, "budget"), value);
    }

    json_decref(value);

    return rc;
}


static int
team_write(const args_t *a, const char *path, json_t *members)
{
    int          rc;
    json_t      *value;
    void        *next;
    text_t       out;
    answer_t     answer;
    const char  *name;

    json_object_foreach_safe(members, next, name, value) {
        if (json_is_null(value)) {
            json_object_del(members, name);
        }
    }

    rc = http_call(a, "PUT", path, members, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        memset(&out, 0, sizeof(out));
        text_show(&out, a->name, 0);
        fprintf(stderr, "team %s is %s\n", out.data,
                answer.status == 201 ? "made" : "changed");
        text_free(&out);
    }

    http_free(&answer);

    return rc;
}


int
team_delete(args_t *a)
{
    int       rc;
    text_t    path, out;
    answer_t  answer;

    memset(&path, 0, sizeof(path));
    text_add(&path, "/teams/");
    text_escape(&path, a->name);

    rc = http_call(a, "DELETE", path.data, NULL, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        memset(&out, 0, sizeof(out));
        text_show(&out, a->name, 0);
        fprintf(stderr, "team %s is deleted\n", out.data);
        text_free(&out);
    }

    http_free(&answer);
    text_free(&path);

    return rc;
}
