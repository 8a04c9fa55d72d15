
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file, read in slices: first all of it is scanned for what is no
 * JSON, then its defaults, teams and keys are handed out one by one, the teams
 * first, as keys name them.  What comes out does not depend on the slices.
 */


#ifndef _LLM_POLICY_FILE_H_INCLUDED_
#define _LLM_POLICY_FILE_H_INCLUDED_


#include "core/llm_json.h"
#include "core/llm_policy.h"


#define LLM_POLICY_FILE_PARTS    4
#define LLM_POLICY_FILE_ROW      (1024 * 1024)        /* bytes, at most */
#define LLM_POLICY_FILE_SCRATCH  (7 * 1024 * 1024)    /* enough for any */


/* where the rows go; what both return is what llm_keyring_load() does */

typedef struct {
    void                 *data;
    int                 (*defaults)(void *data, const llm_terms_t *terms);
    int                 (*row)(void *data, const llm_policy_row_t *row,
                               char *other);
} llm_policy_sink_t;


typedef struct {
    size_t                pos;
    size_t                line;            /* from 1 */
    size_t                column;          /* characters before "pos" */
} llm_policy_place_t;


/* nobody's business but the reader's */

typedef struct {
    const char           *text;
    size_t                len;
    unsigned char        *scratch;
    const llm_policy_sink_t  *sink;

    llm_json_t            js;
    unsigned              phase;
    unsigned              member;          /* of the root, being scanned */
    unsigned              seen;            /* the root's members, as bits */
    unsigned              objects;         /* those that are objects */

    /* of their values: the last one is of all that are unknown */

    size_t                begin[LLM_POLICY_FILE_PARTS];
    size_t                end[LLM_POLICY_FILE_PARTS];
    llm_json_t            section[LLM_POLICY_FILE_PARTS];  /* its first row */
    llm_policy_place_t    start[LLM_POLICY_FILE_PARTS];    /* … there */

    llm_policy_place_t    clean;           /* all before it is right: */
    unsigned              depth;           /* … so deep in objects, */
    int                   first;           /* … before the first member */
    int                   begun;           /* … and not before the root */

    char                  unknown[80];     /* the first one in the root */
} llm_policy_file_t;


/*
 * The text must stay; "scratch" has LLM_POLICY_FILE_SCRATCH bytes, of which
 * the beginning alone is touched unless a row is long.
 */
void llm_policy_file_init(llm_policy_file_t *f, const char *text, size_t len,
    unsigned char *scratch, const llm_policy_sink_t *sink);

/*
 * Goes on for about so many bytes.  LLM_AGAIN: there is more; LLM_OK: all
 * has been handed out; LLM_ERROR: "err" says path, what was expected and what
 * stood there, or line and column of a syntax error; LLM_DECLINED: the sink
 * wants no more (it said LLM_ERROR or LLM_DECLINED).
 */
int llm_policy_file_step(llm_policy_file_t *f, size_t bytes, char *err,
    size_t errlen);


#endif /* _LLM_POLICY_FILE_H_INCLUDED_ */
