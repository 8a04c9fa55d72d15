
/*
 * Copyright (C) the ngx-llm authors
 *
 * Requests, tokens and money over time.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


static const char *const  usage_sums[] = {
    "requests", "errors", "cache_hits", "prompt_tokens", "cached_tokens",
    "completion_tokens", "reasoning_tokens", NULL
};


static int usage_path(const args_t *a, text_t *path);
static int usage_table(const args_t *a, json_t *answer);
static void usage_row(table_t *t, json_t *row, json_t *groups, int start,
    int total, const char *period);
static void usage_start(cell_t *c, const char *start, const char *period);


int
usage_run(args_t *a)
{
    int       rc;
    text_t    path;
    answer_t  answer;

    memset(&path, 0, sizeof(path));
    rc = usage_path(a, &path);

    if (rc != CTL_OK) {
        text_free(&path);
        return rc;
    }

    rc = http_call(a, "GET", path.data, NULL, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        rc = usage_table(a, answer.json);
    }

    http_free(&answer);
    text_free(&path);

    return rc;
}


static int
usage_path(const args_t *a, text_t *path)
{
    int    o, n, rc;

    text_add(path, "/usage");

    for (n = 0, o = OPT_MINUTE; o <= OPT_MONTH; o++) {
        if (a->values[o] != NULL) {
            query_add(path, "period", ctl_options[o].name);
            n++;
        }
    }

    if (n > 1) {
        return args_wrong(a, "one of --minute, --hour, --day and --month");
    }

    rc = query_time(a, path, OPT_FROM);

    if (rc == CTL_OK) {
        rc = query_time(a, path, OPT_TO);
    }

    query_add(path, "group_by", a->values[OPT_BY]);
    query_add(path, "team", a->values[OPT_TEAM]);
    query_add(path, "key", a->values[OPT_KEY]);
    query_add(path, "model", a->values[OPT_MODEL]);
    query_add(path, "provider", a->values[OPT_PROVIDER]);

    if (a->values[OPT_SUM] != NULL) {
        query_add(path, "buckets", "false");
    }

    return rc;
}


static int
usage_table(const args_t *a, json_t *answer)
{
    int          n, start;
    char         names[4][16];
    size_t       i;
    json_t      *data, *groups, *group, *row;
    table_t      table;
    const char  *titles[TABLE_COLUMNS + 1], *period, *s;

    data = json_object_get(answer, "data");
    groups = json_object_get(answer, "group_by");
    period = member_str(answer, "period");

    if (!json_is_array(data) || json_array_size(groups) > 4) {
        http_malformed("has no usage");
        fprintf(stderr, "llmctl: %s\n", http_error.data);
        return CTL_REFUSED;
    }

    n = 0;
    start = a->values[OPT_SUM] == NULL;

    if (start) {
        titles[n++] = "START (UTC)";
    }

    json_array_foreach(groups, i, group) {
        s = json_is_string(group) ? json_string_value(group) : "?";
        snprintf(names[i], sizeof(names[i]), "%s",
                 strcmp(s, "team") == 0 ? "TEAM" : strcmp(s, "key") == 0
                 ? "KEY" : strcmp(s, "model") == 0 ? "MODEL"
                 : strcmp(s, "provider") == 0 ? "PROVIDER" : "?");
        titles[n++] = names[i];
    }

    for (i = 0; i < 9; i++) {
        titles[n++] = ((const char *const []) {
            ">REQUESTS", ">ERRORS", ">HITS", ">PROMPT", ">CACHED", ">ANSWER",
            ">REASONING", ">USD", ">SAVED" })[i];
    }

    titles[n] = NULL;
    table_init(&table, titles);

    json_array_foreach(data, i, row) {
        if (json_is_object(row)) {
            usage_row(&table, row, groups, start, 0, period);
        }
    }

    row = json_object_get(answer, "total");

    if (json_is_object(row) && (start || json_array_size(groups) != 0)) {
        usage_row(&table, row, groups, start, 1, period);
    }

    table_print(&table);
    table_free(&table);

    if (json_is_false(json_object_get(answer, "fleet"))) {
        fprintf(stderr, "of this gateway alone\n");
    }

    if (member_flag(answer, "truncated")) {
        fprintf(stderr, "incomplete: some of it is not known any more\n");
    }

    if (member_num(row, "unpriced") > 0) {
        fprintf(stderr, "%.0f requests were of models without a price\n",
                member_num(row, "unpriced"));
    }

    return CTL_OK;
}


static void
usage_row(table_t *t, json_t *row, json_t *groups, int start, int total,
    const char *period)
{
    size_t       i, first;
    cell_t      *c;
    json_t      *group;
    const char  *name;

    first = t->ncells;

    if (start) {
        c = table_cell(t);

        if (total) {
            text_add(&c->text, "total");

        } else {
            usage_start(c, member_str(row, "start"), period);
        }

        c->width = text_width(c->text.data);
    }

    json_array_foreach(groups, i, group) {
        name = json_is_string(group) ? json_string_value(group) : "";
        table_text(t, total ? i == 0 && !start ? "total" : ""
                            : member_str(row, name));
    }

    for (i = 0; usage_sums[i] != NULL; i++) {
        table_count(t, member_num(row, usage_sums[i]));
    }

    table_usd(t, member_num(row, "usd"));
    table_usd(t, member_num(row, "saved_usd"));

    for ( /* void */ ; total && first < t->ncells; first++) {
        t->cells[first].style = STYLE_BOLD;
    }
}


/* no more of a time than tells the rows apart */

static void
usage_start(cell_t *c, const char *start, const char *period)
{
    size_t  len;

    if (start == NULL || value_iso(start) == -1 || period == NULL) {
        value_time(&c->text, start);
        return;
    }

    len = strcmp(period, "month") == 0 ? 7 : strcmp(period, "day") == 0 ? 10
          : 16;
    value_time(&c->text, start);

    c->text.len = len < c->text.len ? len : c->text.len;
    c->text.data[c->text.len] = '\0';
}
