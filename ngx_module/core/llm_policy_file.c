
/*
 * Copyright (C) the ngx-llm authors
 *
 * Scanning a tenants file: where things are, and what is no JSON.
 */


#include "core/llm_policy_file_private.h"


enum {
    LLM_FILE_SCAN = 0,
    LLM_FILE_DEFAULTS,
    LLM_FILE_TEAMS,
    LLM_FILE_KEYS,
    LLM_FILE_DONE
};


static int llm_file_scan(llm_policy_file_t *f, size_t bytes, char *err,
    size_t errlen);
static int llm_file_token(llm_policy_file_t *f, llm_json_token_e token,
    char *err, size_t errlen);
static int llm_file_member(llm_policy_file_t *f, char *err, size_t errlen);
static int llm_file_scanned(llm_policy_file_t *f, char *err, size_t errlen);


const char *const  llm_file_names[] = { "defaults", "teams", "keys" };


void
llm_policy_file_init(llm_policy_file_t *f, const char *text, size_t len,
    unsigned char *scratch, const llm_policy_sink_t *sink)
{
    memset(f, 0, sizeof(llm_policy_file_t));

    f->text = text;
    f->len = len;
    f->scratch = scratch;
    f->sink = sink;
    f->clean.line = 1;
    f->first = 1;

    llm_json_init(&f->js, (const unsigned char *) text, len);
}


int
llm_policy_file_step(llm_policy_file_t *f, size_t bytes, char *err,
    size_t errlen)
{
    int  rc;

    switch (f->phase) {

    case LLM_FILE_SCAN:
        rc = llm_file_scan(f, bytes, err, errlen);
        break;

    case LLM_FILE_DEFAULTS:
        rc = llm_file_defaults(f, err, errlen);
        break;

    case LLM_FILE_TEAMS:
        rc = llm_file_rows(f, bytes, LLM_FILE_OF_TEAMS, err, errlen);
        break;

    case LLM_FILE_KEYS:
        rc = llm_file_rows(f, bytes, LLM_FILE_OF_KEYS, err, errlen);
        break;

    default:
        return LLM_OK;
    }

    if (rc != LLM_OK) {
        return rc;
    }

    f->phase++;

    if (f->phase == LLM_FILE_TEAMS) {
        rc = llm_file_begin(f, LLM_FILE_OF_TEAMS, err, errlen);

    } else if (f->phase == LLM_FILE_KEYS) {
        rc = llm_file_begin(f, LLM_FILE_OF_KEYS, err, errlen);
    }

    if (rc != LLM_OK) {
        return rc;
    }

    return f->phase == LLM_FILE_DONE ? LLM_OK : LLM_AGAIN;
}


static int
llm_file_scan(llm_policy_file_t *f, size_t bytes, char *err, size_t errlen)
{
    int                   rc;
    llm_json_token_e      token;
    const unsigned char  *until;

    until = (size_t) (f->js.last - f->js.pos) > bytes ? f->js.pos + bytes
                                                      : f->js.last;
    do {
        token = llm_json_next(&f->js);

        if (token == LLM_JSON_ERROR) {
            return llm_file_syntax(f, err, errlen);
        }

        if (token == LLM_JSON_END) {
            return llm_file_scanned(f, err, errlen);
        }

        rc = llm_file_token(f, token, err, errlen);

        if (rc != LLM_OK) {
            return rc;
        }

    } while (f->js.pos < until || until == f->js.last);

    return LLM_AGAIN;
}


static int
llm_file_token(llm_policy_file_t *f, llm_json_token_e token, char *err,
    size_t errlen)
{
    size_t    start;
    unsigned  depth, m;

    depth = f->js.depth;
    m = f->member;
    start = (size_t) (f->js.start - (const unsigned char *) f->text);

    if (!f->begun) {

        if (token != LLM_JSON_OBJECT) {
            return llm_file_no_object(f, 0, f->len, NULL, err, errlen);
        }

        f->begun = 1;
        llm_file_clean(f, 1);

        return LLM_OK;
    }

    if (token == LLM_JSON_NAME) {
        return depth == 1 ? llm_file_member(f, err, errlen) : LLM_OK;
    }

    if (depth > 2) {
        return LLM_OK;
    }

    if (depth == 2 && (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY)) {
        f->begin[m] = start;

        if (token == LLM_JSON_OBJECT) {
            llm_file_clean(f, 1);

            f->objects |= 1u << m;
            f->section[m] = f->js;
            f->start[m] = f->clean;
        }

        return LLM_OK;
    }

    /* a value in an object has come to its end, or the root has */

    if (depth == 2 && !(f->js.objects & 1)) {
        return LLM_OK;
    }

    llm_file_clean(f, 0);

    if (depth == 1) {

        if (token != LLM_JSON_OBJECT_END && token != LLM_JSON_ARRAY_END) {
            f->begin[m] = start;
        }

        f->end[m] = f->clean.pos;
    }

    return LLM_OK;
}


static int
llm_file_member(llm_policy_file_t *f, char *err, size_t errlen)
{
    size_t              len;
    unsigned            m;
    llm_policy_place_t  place;

    for (m = 0; m < LLM_FILE_OF_OTHERS; m++) {
        if (llm_json_is(&f->js, llm_file_names[m], strlen(llm_file_names[m])))
        {
            break;
        }
    }

    f->member = m;

    if (m != LLM_FILE_OF_OTHERS) {

        if (f->seen & (1u << m)) {
            place = f->clean;
            llm_file_move(f, &place, llm_file_end(f));
            return llm_file_error(&place, "duplicate object key", err, errlen);
        }

        f->seen |= 1u << m;

        return LLM_OK;
    }

    if (f->unknown[0] == '\0') {
        len = f->js.size;

        if (len != 0 && len < sizeof(f->unknown)) {
            (void) llm_json_decode(f->js.start + 1, f->js.end - 1,
                                   (unsigned char *) f->unknown);

        } else {
            len = 1;
            f->unknown[0] = '.';
        }

        f->unknown[len] = '\0';
    }

    return LLM_OK;
}


/* up to here all is right, and what follows is so deep in objects */

void
llm_file_clean(llm_policy_file_t *f, int first)
{
    llm_file_move(f, &f->clean,
                  (size_t) (f->js.pos - (const unsigned char *) f->text));

    f->depth = f->js.depth;
    f->first = first;
}


static int
llm_file_scanned(llm_policy_file_t *f, char *err, size_t errlen)
{
    llm_policy_path_t  path;

    if (f->unknown[0] == '\0') {
        return LLM_OK;
    }

    memset(&path, 0, sizeof(llm_policy_path_t));

    path.index = -1;
    path.depth = 1;
    path.name[0] = f->unknown;

    llm_policy_error(err, errlen, &path, "unknown member", NULL);

    return LLM_ERROR;
}
