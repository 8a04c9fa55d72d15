
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file, read by jansson into a tree and from there, member by
 * member, into a policy.
 */


#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


static int llm_policy_read_file(llm_policy_parser_t *ps, json_t *root);
static int llm_policy_allocate(llm_policy_parser_t *ps, json_t *teams,
    json_t *keys);
static void llm_policy_measure(json_t *rows, size_t *patterns, size_t *text);
static int llm_policy_read_rows(llm_policy_parser_t *ps, const char *name,
    json_t *rows);
static int llm_policy_read_team(llm_policy_parser_t *ps, const char *name,
    json_t *row);
static int llm_policy_read_key(llm_policy_parser_t *ps, const char *name,
    json_t *row);
static int llm_policy_read_row(llm_policy_parser_t *ps, unsigned where,
    json_t *row);
static void llm_policy_name(llm_policy_parser_t *ps, llm_str_t *name,
    llm_str_t *full, char prefix, const char *s);


llm_policy_t *
llm_policy_parse(const char *text, size_t len, char *err, size_t errlen)
{
    int                  rc;
    json_t              *root;
    llm_policy_parser_t  ps;

    root = llm_policy_load(text, len, err, errlen);

    if (root == NULL) {
        return NULL;
    }

    memset(&ps, 0, sizeof(llm_policy_parser_t));

    ps.at.path.index = -1;
    ps.at.err = err;
    ps.at.errlen = errlen;

    rc = llm_policy_read_file(&ps, root);

    json_decref(root);

    if (rc != LLM_OK) {
        llm_policy_destroy(ps.policy);
        return NULL;
    }

    return ps.policy;
}


static int
llm_policy_read_file(llm_policy_parser_t *ps, json_t *root)
{
    json_t                    *defaults, *teams, *keys;
    static const char *const  names[] = { "defaults", "teams", "keys", NULL };

    if (llm_policy_only(&ps->at, root, names) != LLM_OK) {
        return LLM_ERROR;
    }

    defaults = json_object_get(root, "defaults");
    teams = json_object_get(root, "teams");
    keys = json_object_get(root, "keys");

    if (llm_policy_allocate(ps, teams, keys) != LLM_OK) {
        snprintf(ps->at.err, ps->at.errlen, "out of memory");
        return LLM_ERROR;
    }

    llm_policy_terms_clear(&ps->defaults);

    if (defaults != NULL) {
        ps->at.path.depth = 1;
        ps->at.path.name[0] = "defaults";
        ps->terms = &ps->defaults;

        if (llm_policy_read_row(ps, LLM_POLICY_DEFAULTS, defaults) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    /* the keys last, wherever they stand: they name their teams */

    if (llm_policy_read_rows(ps, "teams", teams) != LLM_OK
        || llm_policy_read_rows(ps, "keys", keys) != LLM_OK)
    {
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_policy_allocate(llm_policy_parser_t *ps, json_t *teams,
    json_t *keys)
{
    size_t         patterns, text;
    json_free_t    release;
    json_malloc_t  allocate;

    patterns = 0;
    text = 0;

    llm_policy_measure(teams, &patterns, &text);
    llm_policy_measure(keys, &patterns, &text);

    json_get_alloc_funcs(&allocate, &release);

    ps->policy = llm_policy_create(json_object_size(teams),
                                   json_object_size(keys), patterns, text,
                                   &ps->text, allocate, release);
    if (ps->policy == NULL) {
        return LLM_ERROR;
    }

    ps->pattern = ps->policy->patterns;

    return LLM_OK;
}


/* room for names and patterns, be they right or not */

static void
llm_policy_measure(json_t *rows, size_t *patterns, size_t *text)
{
    size_t         i;
    void          *iter;
    json_t        *models;

    for (iter = json_object_iter(rows);
         iter != NULL;
         iter = json_object_iter_next(rows, iter))
    {
        *text += 2 + strlen(json_object_iter_key(iter));

        models = json_object_get(json_object_iter_value(iter), "models");

        *patterns += json_array_size(models);

        for (i = 0; i < json_array_size(models); i++) {
            *text += json_string_length(json_array_get(models, i));
        }
    }
}


static int
llm_policy_read_rows(llm_policy_parser_t *ps, const char *name,
    json_t *rows)
{
    int          rc;
    char         got[LLM_POLICY_SHOW + 32];
    void        *iter;
    unsigned     i;
    const char  *s;

    if (rows == NULL) {
        return LLM_OK;
    }

    ps->at.path.depth = 1;
    ps->at.path.name[0] = name;

    if (!json_is_object(rows)) {
        return llm_policy_refuse(&ps->at, "an object", rows);
    }

    for (iter = json_object_iter(rows);
         iter != NULL;
         iter = json_object_iter_next(rows, iter))
    {
        s = json_object_iter_key(iter);
        ps->at.path.depth = 1;

        if (!llm_policy_is_name(s, strlen(s))) {
            llm_policy_show(got, sizeof(got), s, strlen(s));
            llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                             "names of 1 to 64 letters, digits, \".\", \"_\" "
                             "or \"-\"", got);
            return LLM_ERROR;
        }

        ps->at.path.depth = 2;
        ps->at.path.name[1] = s;

        rc = name[0] == 't'
             ? llm_policy_read_team(ps, s, json_object_iter_value(iter))
             : llm_policy_read_key(ps, s, json_object_iter_value(iter));

        if (rc != LLM_OK) {
            return rc;
        }
    }

    /* only now has every key asked its team */

    for (i = 0; name[0] == 'k' && i < ps->policy->nteams; i++) {
        llm_policy_terms_of_team(&ps->policy->teams[i].terms);
    }

    return LLM_OK;
}


static int
llm_policy_read_team(llm_policy_parser_t *ps, const char *name,
    json_t *row)
{
    llm_team_t  *team;

    team = &ps->policy->teams[ps->policy->nteams];

    ps->key = NULL;
    ps->team = team;
    ps->terms = &team->terms;

    llm_policy_terms_clear(&team->terms);
    llm_policy_name(ps, &team->name, &team->limit.name, 't', name);

    if (llm_policy_read_row(ps, LLM_POLICY_TEAM, row) != LLM_OK) {
        return LLM_ERROR;
    }

    llm_policy_terms_limit(&team->limit, &team->terms);
    llm_policy_team_add(ps->policy, ps->policy->nteams++);

    return LLM_OK;
}


static int
llm_policy_read_key(llm_policy_parser_t *ps, const char *name,
    json_t *row)
{
    char              text[LLM_POLICY_NAME_MAX + 64];
    llm_key_t        *key;
    const llm_key_t  *other;

    key = &ps->policy->keys[ps->policy->nkeys];

    ps->key = key;
    ps->team = NULL;
    ps->terms = &key->terms;

    key->enabled = 1;

    llm_policy_terms_clear(&key->terms);
    llm_policy_name(ps, &key->name, &key->limit.name, 'k', name);

    if (llm_policy_read_row(ps, LLM_POLICY_KEY, row) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->at.path.depth = 3;
    ps->at.path.name[2] = "sha256";

    if (json_object_get(row, "sha256") == NULL) {
        return llm_policy_refuse(&ps->at, "64 hexadecimal digits", NULL);
    }

    other = llm_policy_secret_add(ps->policy, ps->policy->nkeys);

    if (other != NULL) {
        snprintf(text, sizeof(text), "the same secret as that of keys.%.*s",
                 (int) other->name.len, other->name.data);
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path, text, NULL);
        return LLM_ERROR;
    }

    if (key->team != NULL && key->terms.weight != -1) {
        ps->at.path.name[2] = "weight";
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "slots are shared by teams, a key in one has no "
                         "weight of its own", NULL);
        return LLM_ERROR;
    }

    llm_policy_terms_of_key(&key->terms,
                            key->team != NULL ? &key->team->terms : NULL,
                            &ps->defaults);
    llm_policy_terms_limit(&key->limit, &key->terms);

    ps->policy->nkeys++;

    return LLM_OK;
}


static int
llm_policy_read_row(llm_policy_parser_t *ps, unsigned where,
    json_t *row)
{
    void                       *iter;
    unsigned                    depth;
    const char                 *name;
    const llm_policy_member_t  *m;

    if (!json_is_object(row)) {
        return llm_policy_refuse(&ps->at, "an object", row);
    }

    depth = ps->at.path.depth;

    for (iter = json_object_iter(row);
         iter != NULL;
         iter = json_object_iter_next(row, iter))
    {
        name = json_object_iter_key(iter);

        for (m = llm_policy_members; m->name != NULL; m++) {
            if (strcmp(m->name, name) == 0) {
                break;
            }
        }

        ps->at.path.depth = depth + 1;
        ps->at.path.name[depth] = name;

        if (m->name == NULL || (m->where & where) == 0) {
            llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                             "unknown member", NULL);
            return LLM_ERROR;
        }

        if (m->read(ps, json_object_iter_value(iter), m->offset) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    ps->at.path.depth = depth;

    return LLM_OK;
}


/* "k:name" once, "name" is the end of it */

static void
llm_policy_name(llm_policy_parser_t *ps, llm_str_t *name, llm_str_t *full,
    char prefix, const char *s)
{
    full->data = ps->text;
    full->len = 2 + strlen(s);

    name->data = full->data + 2;
    name->len = full->len - 2;

    full->data[0] = (unsigned char) prefix;
    full->data[1] = ':';
    memcpy(name->data, s, name->len);

    ps->text += full->len;
}
