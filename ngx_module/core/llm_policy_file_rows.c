
/*
 * Copyright (C) the ngx-llm authors
 *
 * Handing out what a tenants file has: each row is read from a tree of its
 * own.
 */


#include "core/llm_policy_file_private.h"


static int llm_file_row(llm_policy_file_t *f, unsigned which, char *err,
    size_t errlen);
static void llm_file_parser(llm_policy_parser_t *ps, llm_policy_row_t *row,
    char *err, size_t errlen);
static int llm_file_name(llm_policy_file_t *f, llm_policy_parser_t *ps, char
    *name);
static json_t *llm_file_value(llm_policy_file_t *f, llm_policy_parser_t *ps);
static int llm_file_read(llm_policy_parser_t *ps, json_t *value);
static int llm_file_refused(llm_policy_parser_t *ps, int rc,
    const llm_policy_place_t *named, const char *other);


int
llm_file_begin(llm_policy_file_t *f, unsigned which, char *err, size_t errlen)
{
    if (!(f->seen & (1u << which))) {
        return LLM_OK;
    }

    if (!(f->objects & (1u << which))) {
        return llm_file_no_object(f, f->begin[which], f->end[which],
                                  llm_file_names[which], err, errlen);
    }

    f->js = f->section[which];
    f->clean = f->start[which];

    return LLM_OK;
}


/* "name" NULL: the root itself */

int
llm_file_no_object(llm_policy_file_t *f, size_t begin, size_t end,
    const char *name, char *err, size_t errlen)
{
    json_t           *value;
    llm_policy_at_t   at;

    memset(&at, 0, sizeof(llm_policy_at_t));

    at.path.index = -1;
    at.path.depth = name != NULL;
    at.path.name[0] = name;
    at.err = err;
    at.errlen = errlen;

    if (end - begin > LLM_FILE_AROUND) {
        llm_policy_error(err, errlen, &at.path, "an object", "something else");
        return LLM_ERROR;
    }

    /* a root that is no list either is no JSON of this library's */

    value = name != NULL ? llm_file_load(f, begin, end, err, errlen)
                         : llm_policy_load(f->text, f->len, err, errlen);

    if (value != NULL) {
        (void) llm_policy_refuse(&at, "an object", value);
        json_decref(value);
    }

    return LLM_ERROR;
}


int
llm_file_defaults(llm_policy_file_t *f, char *err, size_t errlen)
{
    int                  rc;
    json_t              *value;
    llm_terms_t          terms;
    llm_policy_parser_t  ps;

    llm_policy_terms_clear(&terms);

    if (f->seen & (1u << LLM_FILE_OF_DEFAULTS)) {

        if (f->end[LLM_FILE_OF_DEFAULTS] - f->begin[LLM_FILE_OF_DEFAULTS]
            > LLM_POLICY_FILE_ROW)
        {
            snprintf(err, errlen, "defaults: longer than 1048576 bytes");
            return LLM_ERROR;
        }

        if (f->objects & (1u << LLM_FILE_OF_DEFAULTS)) {
            f->clean = f->start[LLM_FILE_OF_DEFAULTS];
        }

        value = llm_file_load(f, f->begin[LLM_FILE_OF_DEFAULTS],
                              f->end[LLM_FILE_OF_DEFAULTS], err, errlen);
        if (value == NULL) {
            return LLM_ERROR;
        }

        llm_file_parser(&ps, NULL, err, errlen);

        ps.terms = &terms;
        ps.at.path.depth = 1;
        ps.at.path.name[0] = "defaults";

        rc = llm_policy_read(&ps, LLM_POLICY_DEFAULTS, value, NULL);

        json_decref(value);

        if (rc != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return f->sink->defaults(f->sink->data, &terms) == LLM_OK ? LLM_OK
                                                              : LLM_DECLINED;
}


int
llm_file_rows(llm_policy_file_t *f, size_t bytes, unsigned which, char *err,
    size_t errlen)
{
    int                   rc;
    llm_json_token_e      token;
    const unsigned char  *start;

    if (!(f->seen & (1u << which))) {
        return LLM_OK;
    }

    start = f->js.pos;

    do {
        token = llm_json_next(&f->js);

        if (token != LLM_JSON_NAME) {
            return LLM_OK;
        }

        rc = llm_file_row(f, which, err, errlen);

        if (rc != LLM_OK) {
            return rc;
        }

        llm_file_clean(f, 0);

    } while ((size_t) (f->js.pos - start) < bytes);

    return LLM_AGAIN;
}


/* the scanner has read a name */

static int
llm_file_row(llm_policy_file_t *f, unsigned which, char *err, size_t errlen)
{
    int                  rc;
    char                 name[LLM_POLICY_NAME_MAX + 1];
    char                 other[LLM_KEYRING_OTHER];
    json_t              *value;
    llm_arena_t          arena;
    llm_policy_row_t     row;
    llm_policy_place_t   named;
    llm_policy_parser_t  ps;

    llm_file_parser(&ps, &row, err, errlen);
    llm_policy_row_clear(&row, which == LLM_FILE_OF_KEYS ? LLM_ROW_KEY
                                                         : LLM_ROW_TEAM);
    memset(&arena, 0, sizeof(llm_arena_t));
    arena.pos = f->scratch;
    arena.end = f->scratch + LLM_POLICY_FILE_SCRATCH;

    ps.arena = &arena;
    ps.terms = &row.terms;
    ps.at.path.depth = 1;
    ps.at.path.name[0] = llm_file_names[which];

    if (llm_file_name(f, &ps, name) != LLM_OK) {
        return LLM_ERROR;
    }

    named = f->clean;
    llm_file_move(f, &named, llm_file_end(f));

    ps.at.path.depth = 2;
    ps.at.path.name[1] = name;
    row.name.data = (unsigned char *) name;
    row.name.len = strlen(name);

    value = llm_file_value(f, &ps);

    if (value == NULL) {
        return LLM_ERROR;
    }

    rc = llm_file_read(&ps, value);

    json_decref(value);

    if (rc != LLM_OK) {
        return LLM_ERROR;
    }

    rc = f->sink->row(f->sink->data, &row, other);

    return rc == LLM_OK ? LLM_OK : llm_file_refused(&ps, rc, &named, other);
}


static void
llm_file_parser(llm_policy_parser_t *ps, llm_policy_row_t *row, char *err,
    size_t errlen)
{
    memset(ps, 0, sizeof(llm_policy_parser_t));

    ps->row = row;
    ps->how = LLM_POLICY_FILE;
    ps->at.path.index = -1;
    ps->at.err = err;
    ps->at.errlen = errlen;
}


static int
llm_file_name(llm_policy_file_t *f, llm_policy_parser_t *ps, char *name)
{
    char         got[LLM_POLICY_SHOW + 32];
    const char  *s;

    s = (const char *) f->js.start + 1;

    if (f->js.size <= LLM_POLICY_NAME_MAX) {
        (void) llm_json_decode(f->js.start + 1, f->js.end - 1,
                               (unsigned char *) name);
        name[f->js.size] = '\0';
        s = name;
    }

    if (!llm_policy_is_name(s, f->js.size)) {
        llm_policy_show(got, sizeof(got), s, f->js.size);
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "names of 1 to 64 letters, digits, \".\", \"_\" "
                         "or \"-\"", got);
        return LLM_ERROR;
    }

    return LLM_OK;
}


/* all of the value that follows, and the tree of it */

static json_t *
llm_file_value(llm_policy_file_t *f, llm_policy_parser_t *ps)
{
    size_t            begin;
    llm_json_token_e  token;

    token = llm_json_next(&f->js);
    begin = (size_t) (f->js.start - (const unsigned char *) f->text);

    while (f->js.depth > 2 && token != LLM_JSON_ERROR) {

        if (llm_file_end(f) - begin > LLM_POLICY_FILE_ROW) {
            llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                             "longer than 1048576 bytes", NULL);
            return NULL;
        }

        token = llm_json_next(&f->js);
    }

    return llm_file_load(f, begin, llm_file_end(f), ps->at.err,
                         ps->at.errlen);
}


static int
llm_file_read(llm_policy_parser_t *ps, json_t *value)
{
    unsigned  where;

    where = ps->row->kind == LLM_ROW_KEY ? LLM_POLICY_KEY : LLM_POLICY_TEAM;

    if (llm_policy_read(ps, where, value, NULL) != LLM_OK) {
        return LLM_ERROR;
    }

    if (ps->row->kind != LLM_ROW_KEY) {
        return LLM_OK;
    }

    ps->at.path.depth = 3;
    ps->at.path.name[2] = "sha256";

    if (json_object_get(value, "sha256") == NULL) {
        return llm_policy_refuse(&ps->at, "64 hexadecimal digits", NULL);
    }

    if (ps->row->team.len != 0 && ps->row->terms.weight != -1) {
        ps->at.path.name[2] = "weight";
        return llm_policy_no_weight(&ps->at);
    }

    return LLM_OK;
}


static int
llm_file_refused(llm_policy_parser_t *ps, int rc,
    const llm_policy_place_t *named, const char *other)
{
    char  text[LLM_KEYRING_OTHER + 64];

    ps->at.path.depth = 3;

    switch (rc) {

    case LLM_KEYRING_NAME:
        return llm_file_error(named, "duplicate object key", ps->at.err,
                              ps->at.errlen);

    case LLM_KEYRING_TEAM:
        ps->at.path.name[2] = "team";
        llm_policy_show(text, sizeof(text),
                        (const char *) ps->row->team.data, ps->row->team.len);
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "the name of a team", text);
        return LLM_ERROR;

    case LLM_KEYRING_SECRET:
        ps->at.path.name[2] = "sha256";
        snprintf(text, sizeof(text), "the same secret as that of keys.%s",
                 other);
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path, text, NULL);
        return LLM_ERROR;

    default:
        return LLM_DECLINED;
    }
}
