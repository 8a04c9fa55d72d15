
/*
 * Copyright (C) the ngx-llm authors
 *
 * A book that is small enough to be full, and records for it.
 */


#ifndef _BOOK_HELP_H_INCLUDED_
#define _BOOK_HELP_H_INCLUDED_


#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/llm_book_private.h"
#include "unit_random.h"


#define WALL  1767225600                   /* 2026-01-01 */


static const uint64_t  book_seed[2] = { 7, 11 };


static inline llm_str_t
str(const char *s)
{
    llm_str_t  v;

    v.data = (unsigned char *) s;
    v.len = strlen(s);

    return v;
}


static inline uint32_t
name(llm_book_t *bk, llm_book_name_e of, const char *s)
{
    llm_str_t  v;

    v = str(s);

    return llm_book_name(bk, of, &v);
}


static inline llm_book_record_t
record(llm_book_t *bk, int64_t wall, const char *team, const char *key,
    const char *model, const char *provider)
{
    llm_book_record_t  rec;

    memset(&rec, 0, sizeof(llm_book_record_t));

    rec.wall = wall;
    rec.name[LLM_BOOK_TEAM] = name(bk, LLM_BOOK_TEAM, team);
    rec.name[LLM_BOOK_KEY] = name(bk, LLM_BOOK_KEY, key);
    rec.name[LLM_BOOK_MODEL] = name(bk, LLM_BOOK_MODEL, model);
    rec.name[LLM_BOOK_PROVIDER] = name(bk, LLM_BOOK_PROVIDER, provider);
    rec.status = 200;
    rec.prompt = 10;
    rec.completion = 5;
    rec.money = 123;
    rec.latency = 250;
    rec.first = 80;
    rec.queued = 0;

    return rec;
}


/* sums over all rows of a kind as they lie there */

static inline void
sum_kind(const llm_book_t *bk, llm_book_kind_e kind, llm_book_sums_t *sums)
{
    unsigned        i, n;
    uint64_t        cursor;
    llm_book_row_t  row[7];

    memset(sums, 0, sizeof(llm_book_sums_t));

    for (cursor = 0; cursor != LLM_BOOK_END; /* void */ ) {
        n = llm_book_rows(bk, kind, &cursor, 0, 5, row, 7);

        for (i = 0; i < n; i++) {
            llm_book_add(sums, &row[i].sums);
        }
    }
}


#endif /* _BOOK_HELP_H_INCLUDED_ */
