
/*
 * Copyright (C) the ngx-llm authors
 *
 * The members of keys and teams, from options to JSON.
 */


#include "llmctl.h"

#include <stdlib.h>
#include <string.h>


static const struct {
    opt_t         option;
    const char   *name;
} members[] = {
    { OPT_RPM, "requests_per_minute" },
    { OPT_TPM, "tokens_per_minute" },
    { OPT_RPD, "requests_per_day" },
    { OPT_TPD, "tokens_per_day" },
    { OPT_CONCURRENCY, "concurrency" },
    { OPTIONS, NULL }
};


static int members_is_none(const char *value);
static int members_budget(const args_t *a, json_t *object, int create);
static int members_models(const char *value, json_t *object);
static int members_json(const args_t *a, json_t *object);
static int members_set(const args_t *a, const char *set, json_t *object);


/*
 * "none" is null, which takes a member away; where there is nothing yet to
 * take away, it is left out.
 */

int
members_read(const args_t *a, json_t *object, int create)
{
    int          i, rc;
    char        *end;
    long         priority;
    int64_t      n;
    text_t       iso;
    const char  *value;

    for (i = 0; members[i].name != NULL; i++) {
        value = a->values[members[i].option];

        if (value == NULL) {
            continue;
        }

        if (members_is_none(value)) {
            json_object_set_new(object, members[i].name, json_null());
            continue;
        }

        if (value_read_int(value, &n) != 0) {
            return args_wrong(a, "--%s: a number or none: %s",
                              ctl_options[members[i].option].name, value);
        }

        json_object_set_new(object, members[i].name, json_integer(n));
    }

    rc = members_budget(a, object, create);

    if (rc != CTL_OK) {
        return rc;
    }

    value = a->values[OPT_TEAM];

    if (value != NULL) {
        json_object_set_new(object, "team", members_is_none(value)
                                            ? json_null()
                                            : json_string(value));
    }

    value = a->values[OPT_PRIORITY];

    if (value != NULL) {
        priority = strtol(value, &end, 10);

        if (!members_is_none(value) && (*value == '\0' || *end != '\0')) {
            return args_wrong(a, "--priority: a number or none: %s", value);
        }

        json_object_set_new(object, "priority", members_is_none(value)
                                                ? json_null()
                                                : json_integer(priority));
    }

    value = a->values[OPT_EXPIRES];

    if (value != NULL && members_is_none(value)) {
        json_object_set_new(object, "expires", json_null());

    } else if (value != NULL) {
        memset(&iso, 0, sizeof(iso));

        if (value_read_time(value, time(NULL), &iso) != 0) {
            return args_wrong(a, "--expires: no date: %s", value);
        }

        json_object_set_new(object, "expires", json_string(iso.data));
        text_free(&iso);
    }

    value = a->values[OPT_MODELS];

    if (value != NULL && members_models(value, object) != 0) {
        return args_wrong(a, "--models: patterns, with commas between them");
    }

    return members_json(a, object);
}


static int
members_is_none(const char *value)
{
    return strcmp(value, "none") == 0;
}


static int
members_budget(const args_t *a, json_t *object, int create)
{
    char        *end;
    double       usd;
    json_t      *budget;
    const char  *value, *period;

    value = a->values[OPT_BUDGET];
    period = a->values[OPT_PERIOD];

    if (period != NULL && strcmp(period, "day") != 0
        && strcmp(period, "month") != 0)
    {
        return args_wrong(a, "--period: day or month");
    }

    if (value == NULL) {
        return period == NULL ? CTL_OK
                              : args_wrong(a, "--period without --budget");
    }

    if (members_is_none(value)) {
        json_object_set_new(object, "budget", json_null());
        return CTL_OK;
    }

    usd = strtod(value, &end);

    if (value[strspn(value, "0123456789.")] != '\0' || *end != '\0'
        || end == value || usd > 1e15)
    {
        return args_wrong(a, "--budget: dollars or none: %s", value);
    }

    budget = json_object();
    json_object_set_new(budget, "usd", json_real(usd));

    /* a key that has a budget keeps its period */

    if (period == NULL && create) {
        period = "month";
    }

    if (period != NULL) {
        json_object_set_new(budget, "period", json_string(period));
    }

    json_object_set_new(object, "budget", budget);

    return CTL_OK;
}


static int
members_models(const char *value, json_t *object)
{
    size_t   len;
    json_t  *list;

    if (members_is_none(value)) {
        return json_object_set_new(object, "models", json_null());
    }

    list = json_array();

    for ( ;; ) {
        len = strcspn(value, ",");

        if (len == 0
            || json_array_append_new(list, json_stringn(value, len)) != 0)
        {
            json_decref(list);
            return -1;
        }

        if (value[len] == '\0') {
            break;
        }

        value += len + 1;
    }

    return json_object_set_new(object, "models", list);
}


static int
members_json(const args_t *a, json_t *object)
{
    int          rc;
    size_t       i;
    json_t      *value;
    const char  *text;

    text = a->values[OPT_METADATA];

    if (text != NULL) {
        value = members_is_none(text) ? json_null()
                                      : json_loads(text, 0, NULL);

        if (!json_is_object(value) && !json_is_null(value)) {
            json_decref(value);
            return args_wrong(a, "--metadata: a JSON object or none");
        }

        json_object_set_new(object, "metadata", value);
    }

    for (i = 0; i < a->nsets; i++) {
        rc = members_set(a, a->sets[i], object);

        if (rc != CTL_OK) {
            return rc;
        }
    }

    return CTL_OK;
}


/* MEMBER=JSON; what is no JSON is a string */

static int
members_set(const args_t *a, const char *set, json_t *object)
{
    size_t   len;
    json_t  *value;
    text_t   name;

    len = strcspn(set, "=");

    if (len == 0 || set[len] == '\0') {
        return args_wrong(a, "--set: MEMBER=JSON: %s", set);
    }

    value = json_loads(set + len + 1, JSON_DECODE_ANY, NULL);

    if (value == NULL) {
        value = members_is_none(set + len + 1) ? json_null()
                                               : json_string(set + len + 1);
    }

    memset(&name, 0, sizeof(name));
    text_bytes(&name, set, len);

    if (json_object_set_new(object, name.data, value) != 0) {
        text_free(&name);
        return args_wrong(a, "--set: no UTF-8: %s", set);
    }

    text_free(&name);

    return CTL_OK;
}
