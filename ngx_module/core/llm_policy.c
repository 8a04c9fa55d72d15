
/*
 * Copyright (C) the ngx-llm authors
 *
 * Rows of a policy: their members, one by one, from a tree of jansson's.
 */


#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


static int llm_policy_read_text(llm_policy_parser_t *ps, json_t *root,
    const char *const *others);
static int llm_policy_patch(llm_policy_parser_t *ps, json_t *patch,
    const char *const *others);
static json_t *llm_policy_present(llm_policy_parser_t *ps);
static int llm_policy_merge(json_t *target, json_t *patch,
    const char *const *others);
static int llm_policy_other(const char *name, const char *const *others);
static const llm_policy_member_t *llm_policy_member(
    const llm_policy_member_t *members, const char *name);


void
llm_policy_row_clear(llm_policy_row_t *row, llm_row_e kind)
{
    memset(row, 0, sizeof(llm_policy_row_t));

    row->kind = kind;
    row->enabled = 1;

    llm_policy_terms_clear(&row->terms);
}


int
llm_policy_row_parse(llm_policy_row_t *row, const char *text, size_t len,
    unsigned how, const char *const *others, llm_arena_t *arena, char *err,
    size_t errlen, size_t *path)
{
    int                  rc;
    char                *colon;
    json_t              *root;
    llm_policy_parser_t  ps;

    if (path != NULL) {
        *path = 0;
    }

    root = llm_policy_load(text, len, err, errlen);

    if (root == NULL) {
        return LLM_ERROR;
    }

    memset(&ps, 0, sizeof(llm_policy_parser_t));

    ps.row = row;
    ps.terms = &row->terms;
    ps.arena = arena;
    ps.how = how;
    ps.at.path.index = -1;
    ps.at.err = err;
    ps.at.errlen = errlen;

    rc = how & LLM_POLICY_PATCH ? llm_policy_patch(&ps, root, others)
                                : llm_policy_read_text(&ps, root, others);

    json_decref(root);

    if (rc != LLM_OK && path != NULL) {
        colon = strstr(err, ": ");
        *path = colon != NULL ? (size_t) (colon - err) : 0;
    }

    return rc;
}


static int
llm_policy_read_text(llm_policy_parser_t *ps, json_t *root,
    const char *const *others)
{
    unsigned  where;

    where = ps->row->kind == LLM_ROW_KEY ? LLM_POLICY_KEY : LLM_POLICY_TEAM;

    if (llm_policy_read(ps, where, root, others) != LLM_OK) {
        return LLM_ERROR;
    }

    if (ps->row->team.len != 0 && ps->row->terms.weight != -1) {
        ps->at.path.depth = 1;
        ps->at.path.name[0] = "weight";

        return llm_policy_no_weight(&ps->at);
    }

    return LLM_OK;
}


/*
 * A merge patch (RFC 7396) of what there is, as if that had been written by
 * hand: what is not a member of the file's stays.
 */

static int
llm_policy_patch(llm_policy_parser_t *ps, json_t *patch,
    const char *const *others)
{
    int                rc;
    json_t            *present;
    llm_policy_row_t   old, *row;

    if (!json_is_object(patch)) {
        return llm_policy_refuse(&ps->at, "an object", patch);
    }

    present = llm_policy_present(ps);

    if (present == NULL || llm_policy_merge(present, patch, others) != LLM_OK)
    {
        json_decref(present);
        return llm_policy_no_memory(&ps->at);
    }

    row = ps->row;
    old = *row;

    llm_policy_row_clear(row, old.kind);

    row->name = old.name;
    row->hint = old.hint;
    row->created = old.created;
    row->version = old.version;
    row->old_until = old.old_until;

    memcpy(row->sha256, old.sha256, sizeof(row->sha256));
    memcpy(row->old_sha256, old.old_sha256, sizeof(row->old_sha256));
    memcpy(row->raise, old.raise, sizeof(row->raise));

    rc = llm_policy_read_text(ps, present, NULL);

    json_decref(present);

    return rc;
}


static json_t *
llm_policy_present(llm_policy_parser_t *ps)
{
    char          *text;
    size_t         len;
    json_error_t   je;

    len = llm_policy_row_write(ps->row, 0, NULL, 0);

    text = llm_arena_alloc(ps->arena, len + 2);

    if (text == NULL) {
        return NULL;
    }

    text[0] = '{';
    (void) llm_policy_row_write(ps->row, 0, text + 1, len);
    text[len + 1] = '}';

    return llm_policy_load_value(text, len + 2, &je);
}


static int
llm_policy_merge(json_t *target, json_t *patch, const char *const *others)
{
    int          rc;
    void        *iter;
    json_t      *value, *member;
    const char  *name;

    for (iter = json_object_iter(patch);
         iter != NULL;
         iter = json_object_iter_next(patch, iter))
    {
        name = json_object_iter_key(iter);
        value = json_object_iter_value(iter);

        if (llm_policy_other(name, others)) {
            continue;
        }

        if (json_is_null(value)) {
            (void) json_object_del(target, name);
            continue;
        }

        if (!json_is_object(value)) {
            if (json_object_set(target, name, value) != 0) {
                return LLM_ERROR;
            }

            continue;
        }

        member = json_object_get(target, name);

        if (!json_is_object(member)) {
            member = json_object();

            if (json_object_set_new(target, name, member) != 0) {
                return LLM_ERROR;
            }
        }

        rc = llm_policy_merge(member, value, NULL);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return LLM_OK;
}


int
llm_policy_read(llm_policy_parser_t *ps, unsigned where, json_t *object,
    const char *const *others)
{
    void                       *iter;
    unsigned                    depth;
    const char                 *name;
    const llm_policy_member_t  *m;

    if (!json_is_object(object)) {
        return llm_policy_refuse(&ps->at, "an object", object);
    }

    depth = ps->at.path.depth;

    for (iter = json_object_iter(object);
         iter != NULL;
         iter = json_object_iter_next(object, iter))
    {
        name = json_object_iter_key(iter);

        if (llm_policy_other(name, others)) {
            continue;
        }

        m = llm_policy_member(llm_policy_members, name);

        if (m == NULL && (ps->how & LLM_POLICY_RECORD)) {
            m = llm_policy_member(llm_policy_stored, name);
        }

        ps->at.path.depth = depth + 1;
        ps->at.path.name[depth] = name;

        if (m == NULL || (m->where & where) == 0) {
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


static int
llm_policy_other(const char *name, const char *const *others)
{
    unsigned  i;

    for (i = 0; others != NULL && others[i] != NULL; i++) {
        if (strcmp(others[i], name) == 0) {
            return 1;
        }
    }

    return 0;
}


static const llm_policy_member_t *
llm_policy_member(const llm_policy_member_t *members, const char *name)
{
    const llm_policy_member_t  *m;

    for (m = members; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) {
            return m;
        }
    }

    return NULL;
}


int
llm_policy_no_weight(llm_policy_at_t *at)
{
    llm_policy_error(at->err, at->errlen, &at->path,
                     "slots are shared by teams, a key in one has no weight "
                     "of its own", NULL);

    return LLM_ERROR;
}


int
llm_policy_copy(llm_policy_parser_t *ps, llm_str_t *to, json_t *value)
{
    to->len = json_string_length(value);
    to->data = llm_arena_alloc(ps->arena, to->len);

    if (to->data == NULL) {
        return llm_policy_no_memory(&ps->at);
    }

    memcpy(to->data, json_string_value(value), to->len);

    return LLM_OK;
}
