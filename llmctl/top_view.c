
/*
 * Copyright (C) the ngx-llm authors
 *
 * The picture of the live view.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


#define TOP_TEAMS  200


static const char *const  top_titles[] = {
    "TEAM", ">REQUESTS", ">TOKENS", ">TODAY", ">ERRORS", ">RUNNING",
    ">WAITING", NULL
};


static void top_head(const top_t *t, text_t *out, int columns);
static void top_numbers(const top_t *t, text_t *out, int columns);
static void top_money(const top_t *t, text_t *out, int columns);
static void top_tasks(const top_t *t, text_t *out, int columns);
static void top_line(text_t *out, text_t *line, const char *title,
    int columns);
static void top_teams(const top_t *t, text_t *out, int columns, size_t max);
static double top_slot(const top_t *t, const char *team, const char *what);
static void top_targets(const top_t *t, text_t *out, int columns, size_t max);
static int top_by_money(const void *a, const void *b);
static size_t top_count(const answer_t *answer);


/* columns and lines 0: as much as there is */

void
top_draw(const top_t *t, const char *trouble, text_t *out, int columns,
    int lines)
{
    size_t  left, teams, targets;
    text_t  line;

    top_head(t, out, columns);

    memset(&line, 0, sizeof(line));

    if (trouble != NULL) {
        style_begin(out, STYLE_BAD);
        text_show(out, trouble, columns);
        style_end(out, STYLE_BAD);
        text_add(out, "\n");
    }

    if (t->status.json == NULL) {
        return;
    }

    top_numbers(t, out, columns);
    top_money(t, out, columns);
    top_tasks(t, out, columns);

    /* two tables, each with its title and a blank line before it */

    left = lines == 0 ? 0 : lines > 12 ? (size_t) lines - 10 : 2;
    left -= left > 2 && trouble != NULL;
    left -= left > 2 && t->tasks.json != NULL;
    teams = 0;
    targets = 0;

    if (left != 0) {
        targets = top_count(&t->breakers);
        targets = targets > left / 2 ? left / 2 : targets;
        targets = targets == 0 ? 1 : targets;
        teams = left > targets ? left - targets : 1;
    }

    text_add(out, "\n");
    top_teams(t, out, columns, teams);
    text_add(out, "\n");
    top_targets(t, out, columns, targets);
}


static void
top_head(const top_t *t, text_t *out, int columns)
{
    char         clock[16];
    int          width;
    time_t       now, started;
    text_t       line;
    struct tm    tm;
    const char  *s;

    now = time(NULL);
    gmtime_r(&now, &tm);
    strftime(clock, sizeof(clock), "%H:%M:%S", &tm);

    memset(&line, 0, sizeof(line));
    text_add(&line, "llmctl top  ");
    text_add(&line, http_url());

    s = member_str(t->status.json, "version");

    if (s != NULL) {
        text_add(&line, "  gateway ");
        text_add(&line, s);
    }

    s = member_str(t->status.json, "started");
    started = s != NULL ? value_iso(s) : -1;

    if (started != -1) {
        text_add(&line, "  up ");
        value_span(&line, (double) (now - started));
    }

    style_begin(out, STYLE_BOLD);
    width = text_show(out, line.data, columns > 12 ? columns - 10 : columns);
    style_end(out, STYLE_BOLD);

    if (columns == 0) {
        text_printf(out, "  %s", clock);

    } else if (columns > width + 10) {
        text_printf(out, "%*s", columns - width, clock);
    }

    text_add(out, "\n");
    text_free(&line);
}


static void
top_numbers(const top_t *t, text_t *out, int columns)
{
    text_t       line;
    json_t      *s, *day, *part;
    const char  *redis;

    s = t->status.json;
    day = json_object_get(s, "day");
    part = json_object_get(s, "requests");
    memset(&line, 0, sizeof(line));

    if (isnan(t->requests_per_s)) {
        text_add(&line, "-");

    } else {
        text_printf(&line, "%.1f", t->requests_per_s);
    }

    text_add(&line, "/s   running ");
    value_count(&line, member_num(part, "running"));
    text_add(&line, "   waiting ");
    value_count(&line, member_num(part, "waiting"));
    text_add(&line, "   today ");
    value_count(&line, member_num(day, "requests"));
    text_add(&line, "   errors ");
    value_count(&line, member_num(day, "errors"));
    text_add(&line, "   redis ");
    redis = member_str(s, "redis");
    text_add(&line, redis != NULL ? redis : "-");
    top_line(out, &line, "Requests", columns);

    value_count(&line, t->tokens_per_s);
    text_add(&line, "/s   today ");
    value_count(&line, member_num(day, "prompt_tokens"));
    text_add(&line, " in (");
    value_count(&line, member_num(day, "cached_tokens"));
    text_add(&line, " cached), ");
    value_count(&line, member_num(day, "completion_tokens"));
    text_add(&line, " out");
    top_line(out, &line, "Tokens", columns);
}


static void
top_money(const top_t *t, text_t *out, int columns)
{
    text_t   line;
    json_t  *s, *part;

    s = t->status.json;
    memset(&line, 0, sizeof(line));

    part = json_object_get(s, "day");
    text_add(&line, "today ");
    value_usd(&line, member_num(part, "usd"));
    text_add(&line, "   saved ");
    value_usd(&line, member_num(part, "saved_usd"));
    text_add(&line, "   this month ");
    value_usd(&line, member_num(json_object_get(s, "month"), "usd"));
    top_line(out, &line, "Money", columns);

    part = json_object_get(s, "cache");

    if (!json_is_object(part)) {
        text_add(&line, "off");

    } else {
        text_add(&line, "hit ratio ");
        value_ratio(&line, member_num(part, "hits"),
                    member_num(part, "hits") + member_num(part, "misses"));
        text_add(&line, "   ");
        value_count(&line, member_num(part, "entries"));
        text_add(&line, " answers, ");
        value_bytes(&line, member_num(part, "bytes"));
        text_add(&line, " of ");
        value_bytes(&line, member_num(part, "size_bytes"));
    }

    top_line(out, &line, "Cache", columns);
    text_free(&line);
}


static void
top_tasks(const top_t *t, text_t *out, int columns)
{
    text_t  line;

    if (t->tasks.json == NULL) {
        return;
    }

    memset(&line, 0, sizeof(line));
    tasks_now(&line, t->tasks.json);
    top_line(out, &line, "Tasks", columns);
}


static void
top_line(text_t *out, text_t *line, const char *title, int columns)
{
    style_begin(out, STYLE_DIM);
    text_printf(out, "%-10s", title);
    style_end(out, STYLE_DIM);

    text_show(out, line->data, columns > 10 ? columns - 10 : columns);
    text_add(out, "\n");
    text_free(line);
}


static void
top_teams(const top_t *t, text_t *out, int columns, size_t max)
{
    size_t       i, n;
    json_t      *data, *rows[TOP_TEAMS], *row;
    cell_t      *c;
    double       waiting;
    table_t      table;
    const char  *team;

    data = json_object_get(t->usage.json, "data");

    memset(rows, 0, sizeof(rows));

    for (n = 0, i = 0; i < json_array_size(data); i++) {
        row = json_array_get(data, i);

        if (!json_is_object(row)) {
            continue;
        }

        /* of very many teams the best are kept, and the next may be better */

        if (n == TOP_TEAMS) {
            qsort(rows, n, sizeof(json_t *), top_by_money);
            n = TOP_TEAMS / 2;
        }

        rows[n++] = row;
    }

    qsort(rows, n, sizeof(json_t *), top_by_money);
    table_init(&table, top_titles);

    for (i = 0; i < n && (max == 0 || i < max); i++) {
        team = member_str(rows[i], "team");

        table_text(&table, team != NULL ? team : "(no team)");
        table_count(&table, member_num(rows[i], "requests"));
        table_count(&table, top_tokens(rows[i]));
        table_usd(&table, member_num(rows[i], "usd"));
        table_count(&table, member_num(rows[i], "errors"));
        table_count(&table, top_slot(t, team, "in_use"));

        waiting = top_slot(t, team, "waiting");
        c = table_cell(&table);
        c->style = waiting > 0 ? STYLE_WARN : STYLE_NONE;
        value_count(&c->text, waiting);
        table_done(c);
    }

    table_write(&table, out, columns, max);
    table_free(&table);
}


/* who has no slot in the list has none in use */

static double
top_slot(const top_t *t, const char *team, const char *what)
{
    size_t       i;
    json_t      *slot;
    const char  *name, *kind;

    if (team == NULL) {
        return NAN;
    }

    json_array_foreach(json_object_get(t->slots.json, "data"), i, slot) {
        name = member_str(slot, "name");
        kind = member_str(slot, "kind");

        if (name != NULL && kind != NULL && strcmp(kind, "team") == 0
            && strcmp(name, team) == 0)
        {
            return member_num(slot, what);
        }
    }

    return 0;
}


static void
top_targets(const top_t *t, text_t *out, int columns, size_t max)
{
    int       pass, ill;
    size_t    i;
    json_t   *target;
    table_t   table;
    const char  *state;

    table_init(&table, breakers_titles);

    /* the ill ones first: there may be no room for all */

    for (pass = 0; pass < 2; pass++) {
        json_array_foreach(json_object_get(t->breakers.json, "data"), i,
                           target)
        {
            state = member_str(target, "state");
            ill = (state != NULL && strcmp(state, "closed") != 0)
                  || member_str(target, "cooling_until") != NULL;

            if (json_is_object(target) && ill == (pass == 0)) {
                breakers_table(&table, target);
            }
        }
    }

    table_write(&table, out, columns, max);
    table_free(&table);
}


static int
top_by_money(const void *a, const void *b)
{
    double   x, y;
    json_t  *one = *(json_t *const *) a;
    json_t  *two = *(json_t *const *) b;

    x = member_num(one, "usd");
    y = member_num(two, "usd");

    if (x == y || isnan(x) || isnan(y)) {
        x = member_num(one, "requests");
        y = member_num(two, "requests");
    }

    return (x < y) - (x > y);
}


static size_t
top_count(const answer_t *answer)
{
    return json_array_size(json_object_get(answer->json, "data"));
}
