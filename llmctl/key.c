
/*
 * Copyright (C) the ngx-llm authors
 *
 * Keys: made, listed, changed, rotated, raised, taken away.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


static const char *const  key_titles[] = {
    "NAME", "TEAM", "STATE", ">RPM", ">TPM", ">CONC", ">BUDGET", "EXPIRES",
    "SECRET", "SOURCE", NULL
};


static void key_row(void *data, json_t *key);
static style_t key_state(json_t *key, const char **state);
static void key_path(const args_t *a, const char *suffix, text_t *path);
static int key_request(const args_t *a, const char *method,
    const char *suffix, json_t *body, const char *done);
static int key_secret(answer_t *answer);
static void key_say(const char *name, const char *what);


int
key_create(args_t *a)
{
    int          rc;
    json_t      *body, *old;
    void        *next;
    answer_t     answer;
    const char  *name;

    body = json_object();

    rc = members_read(a, body, 1);

    if (rc != CTL_OK) {
        json_decref(body);
        return rc;
    }

    json_object_foreach_safe(body, next, name, old) {
        if (json_is_null(old)) {
            json_object_del(body, name);
        }
    }

    if (json_object_set_new(body, "name", json_string(a->name)) != 0) {
        json_decref(body);
        return args_wrong(a, "the name is no UTF-8");
    }

    if (a->values[OPT_SHA256] != NULL) {
        json_object_set_new(body, "sha256",
                            json_string(a->values[OPT_SHA256]));
    }

    rc = http_call(a, "POST", "/keys", body, &answer);
    json_decref(body);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        key_say(a->name, "is made");

        if (a->values[OPT_SHA256] == NULL) {
            rc = key_secret(&answer);
        }
    }

    http_free(&answer);

    return rc;
}


/* the secret alone goes to stdout, so that a script can take it */

static int
key_secret(answer_t *answer)
{
    text_t       out;
    const char  *secret;

    secret = member_str(answer->json, "secret");

    if (secret == NULL) {
        http_malformed("has no secret");
        fprintf(stderr, "llmctl: %s\n", http_error.data);
        return CTL_REFUSED;
    }

    memset(&out, 0, sizeof(out));
    text_show(&out, secret, 0);

    fprintf(stderr, "its secret, which is not shown again:\n");
    printf("%s\n", out.data != NULL ? out.data : "");
    text_free(&out);

    return CTL_OK;
}


static void
key_say(const char *name, const char *what)
{
    text_t  out;

    memset(&out, 0, sizeof(out));
    text_show(&out, name, 0);
    fprintf(stderr, "key %s %s\n", out.data, what);
    text_free(&out);
}


int
key_list(args_t *a)
{
    int      rc;
    text_t   path;
    table_t  table;

    memset(&path, 0, sizeof(path));
    text_add(&path, "/keys");
    query_add(&path, "team", a->values[OPT_TEAM]);
    query_add(&path, "source", a->values[OPT_SOURCE]);

    table_init(&table, key_titles);
    rc = http_list(a, path.data, key_row, &table);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        table_sort(&table);
        table_print(&table);
    }

    table_free(&table);
    text_free(&path);

    return rc;
}


static void
key_row(void *data, json_t *key)
{
    double       usd;
    json_t      *limits, *budget;
    cell_t      *c;
    table_t     *t = data;
    const char  *state, *period;

    limits = json_object_get(key, "effective");
    limits = json_is_object(limits) ? limits : key;
    budget = json_object_get(limits, "budget");

    table_text(t, member_str(key, "name"));
    table_text(t, member_str(key, "team"));

    c = table_cell(t);
    c->style = key_state(key, &state);
    text_add(&c->text, state);
    table_done(c);

    table_count(t, member_num(limits, "requests_per_minute"));
    table_count(t, member_num(limits, "tokens_per_minute"));
    table_count(t, member_num(limits, "concurrency"));

    c = table_cell(t);
    usd = member_num(budget, "usd");
    period = member_str(budget, "period");
    value_usd(&c->text, usd);

    if (!isnan(usd) && period != NULL) {
        text_add(&c->text, "/");
        text_show(&c->text, period, 16);
    }

    c->width = text_width(c->text.data);

    c = table_cell(t);
    value_time(&c->text, member_str(key, "expires"));
    c->width = text_width(c->text.data);

    table_text(t, member_str(key, "hint"));
    table_text(t, member_str(key, "source"));
}


static style_t
key_state(json_t *key, const char **state)
{
    time_t       expires;
    const char  *s;

    if (json_is_false(json_object_get(key, "enabled"))) {
        *state = "disabled";
        return STYLE_BAD;
    }

    s = member_str(key, "expires");
    expires = s != NULL ? value_iso(s) : -1;

    if (expires != -1 && expires <= time(NULL)) {
        *state = "expired";
        return STYLE_BAD;
    }

    if (member_flag(key, "shadowed")) {
        *state = "shadowed";
        return STYLE_WARN;
    }

    if (json_is_object(json_object_get(key, "rotation"))) {
        *state = "rotating";
        return STYLE_WARN;
    }

    if (json_array_size(json_object_get(key, "raises")) != 0) {
        *state = "raised";
        return STYLE_WARN;
    }

    *state = "active";

    return STYLE_GOOD;
}


int
key_show(args_t *a)
{
    static const char *const  skip[] = { "object", NULL };

    int       rc;
    text_t    path;
    answer_t  answer;

    key_path(a, "", &path);
    rc = http_call(a, "GET", path.data, NULL, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        show_object(answer.json, skip);
    }

    http_free(&answer);
    text_free(&path);

    return rc;
}


static void
key_path(const args_t *a, const char *suffix, text_t *path)
{
    memset(path, 0, sizeof(text_t));
    text_add(path, "/keys/");
    text_escape(path, a->name);
    text_add(path, suffix);
}


static int
key_request(const args_t *a, const char *method, const char *suffix,
    json_t *body, const char *done)
{
    int       rc;
    text_t    path;
    answer_t  answer;

    key_path(a, suffix, &path);

    if (a->values[OPT_CUT] != NULL) {
        query_add(&path, "streams", "cut");
    }

    rc = http_call(a, method, path.data, body, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        key_say(a->name, done);

        if (strcmp(suffix, "/rotate") == 0) {
            rc = key_secret(&answer);
        }
    }

    http_free(&answer);
    text_free(&path);
    json_decref(body);

    return rc;
}


int
key_set(args_t *a)
{
    int      rc;
    json_t  *body;

    body = json_object();
    rc = members_read(a, body, 0);

    if (rc == CTL_OK && json_object_size(body) == 0) {
        rc = args_wrong(a, "nothing to set");
    }

    if (rc != CTL_OK) {
        json_decref(body);
        return rc;
    }

    return key_request(a, "PATCH", "", body, "is changed");
}


int
key_disable(args_t *a)
{
    return key_request(a, "PATCH", "", json_pack("{sb}", "enabled", 0),
                       "is disabled");
}


int
key_enable(args_t *a)
{
    return key_request(a, "PATCH", "", json_pack("{sb}", "enabled", 1),
                       "is enabled");
}


int
key_delete(args_t *a)
{
    return key_request(a, "DELETE", "", NULL, "is deleted");
}


int
key_rotate(args_t *a)
{
    int64_t  grace;

    grace = 0;

    if (a->values[OPT_GRACE] != NULL
        && value_read_span(a->values[OPT_GRACE], &grace) != 0)
    {
        return args_wrong(a, "--grace: a time such as 90s, 15m, 6h, 1d");
    }

    return key_request(a, "POST", "/rotate",
                       json_pack("{sI}", "grace_s", (json_int_t) grace),
                       grace == 0 ? "is rotated; the old secret is void"
                                  : "is rotated; the old secret still works"
                                    " for the time of grace");
}


int
key_raise(args_t *a)
{
    int      rc;
    text_t   iso;
    size_t   n;
    json_t  *body, *usd;

    body = json_object();
    rc = members_read(a, body, 0);
    n = json_object_size(body);

    /* its period stays what it is: the money alone is raised */

    usd = json_object_get(json_object_get(body, "budget"), "usd");

    if (usd != NULL) {
        json_object_set(body, "budget", usd);
    }

    if (rc == CTL_OK && a->values[OPT_NONE] != NULL) {

        json_decref(body);

        return n != 0 || a->values[OPT_UNTIL] != NULL
               ? args_wrong(a, "--none is all, or nothing")
               : key_request(a, "DELETE", "/raise", NULL,
                             "has no raised limits");
    }

    if (rc == CTL_OK && (n == 0 || a->values[OPT_UNTIL] == NULL)) {
        rc = args_wrong(a, "which limit, and --until when?");
    }

    memset(&iso, 0, sizeof(iso));

    if (rc == CTL_OK
        && value_read_time(a->values[OPT_UNTIL], time(NULL), &iso) != 0)
    {
        rc = args_wrong(a, "--until: no date: %s", a->values[OPT_UNTIL]);
    }

    if (rc != CTL_OK) {
        json_decref(body);
        return rc;
    }

    json_object_set_new(body, "until", json_string(iso.data));
    text_free(&iso);

    return key_request(a, "POST", "/raise", body, "has raised limits");
}
