
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts: who used what, and when.  One block of memory that processes
 * share holds names, rows of sums, histograms, and a journal for each worker.
 *
 * A row belongs to a period and to a tuple of names:
 *
 *     total    since the memory was made   team, model, provider, status
 *     minute   24 hours of them            team, model
 *     hour     90 days                     team, model
 *     day      62, UTC                     team, key, model, provider
 *     month    25, UTC                     team, key, model, provider
 *
 * and, of all requests together, sums and latencies by minute and hour that
 * no number of names can push out.  Each kind has its share of the memory;
 * where it is full, the oldest rows go first.  What does not fit beside rows
 * of the same period goes to a row "other" of that period: sums never lose
 * anything.
 *
 * A worker writes one record per request into its own journal, without a
 * lock; records are posted to the rows later, by llm_book_drain(), and before
 * anything is read.  All other functions that take a book want the caller to
 * hold the lock, unless they say otherwise.  Whatever a function changes in
 * the rows it first writes down in a redo log, so that a process may die at
 * any moment: llm_book_recover() ends what it had begun, and nothing is lost
 * or counted twice.
 *
 * All links are indices: the memory may be mapped anywhere.
 */


#ifndef _LLM_BOOK_H_INCLUDED_
#define _LLM_BOOK_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_BOOK_NAME     119              /* bytes kept of a name */
#define LLM_BOOK_OWNERS   64               /* journals, at most */

/* numbers of names that are always there */

#define LLM_BOOK_NONE     0                /* "": no team, no provider asked */
#define LLM_BOOK_OTHER    1                /* "other": no room for more */


typedef enum {
    LLM_BOOK_TEAM = 0,
    LLM_BOOK_KEY,
    LLM_BOOK_MODEL,                        /* as the provider is asked */
    LLM_BOOK_PROVIDER,
    LLM_BOOK_NAMES
} llm_book_name_e;


typedef enum {
    LLM_BOOK_TOTAL = 0,
    LLM_BOOK_MINUTE,
    LLM_BOOK_HOUR,
    LLM_BOOK_DAY,
    LLM_BOOK_MONTH,
    LLM_BOOK_KINDS
} llm_book_kind_e;


/* tokens and money are those charged: answers of the cache have none */

typedef struct {
    int64_t               requests;
    int64_t               errors;          /* status 400 or above */
    int64_t               hits;            /* answered by the cache */
    int64_t               joined;          /* … by another's call */
    int64_t               stale;           /* … by an entry out of date */
    int64_t               prompt;          /* tokens */
    int64_t               cached;          /* … of them, by the provider */
    int64_t               completion;
    int64_t               reasoning;       /* … of them */
    int64_t               money;           /* micro-dollars */
    int64_t               saved_tokens;    /* by the cache */
    int64_t               saved_money;
    int64_t               unpriced;        /* requests without a price */
} llm_book_sums_t;

#define LLM_BOOK_SUMS  (sizeof(llm_book_sums_t) / sizeof(int64_t))


/* flags of a record */

#define LLM_BOOK_HIT       1
#define LLM_BOOK_JOINED    2
#define LLM_BOOK_STALE     4
#define LLM_BOOK_UNPRICED  8
#define LLM_BOOK_FOLDED    16              /* a name is not its own */

#define LLM_BOOK_UNKNOWN   UINT32_MAX      /* a time that was not measured */


/* one request; names by llm_book_name() */

typedef struct {
    int64_t               wall;            /* its end, s since the epoch */
    uint32_t              name[LLM_BOOK_NAMES];
    uint32_t              status;
    uint32_t              flags;
    int64_t               prompt;
    int64_t               cached;
    int64_t               completion;
    int64_t               reasoning;
    int64_t               money;
    int64_t               saved_tokens;
    int64_t               saved_money;
    uint32_t              latency;         /* ms, or UNKNOWN: each */
    uint32_t              first;           /* … to the first token */
    uint32_t              queued;
} llm_book_record_t;


/* histograms, by provider and model */

typedef enum {
    LLM_BOOK_LATENCY = 0,
    LLM_BOOK_FIRST,
    LLM_BOOK_QUEUED,
    LLM_BOOK_BETWEEN,                      /* events of a stream */
    LLM_BOOK_HISTS
} llm_book_hist_e;

#define LLM_BOOK_BUCKETS  18               /* the last one: above all bounds */

typedef struct {
    uint64_t              n[LLM_BOOK_BUCKETS];   /* each its own, not "or
                                                    below" */
    uint64_t              sum;             /* ms */
} llm_book_hist_t;

/* upper bounds, in ms and as the text of an "le" in seconds; 0 and "+Inf" for
   the last; a histogram with fewer repeats none: it ends at its first 0 */
extern const uint32_t  llm_book_bound[LLM_BOOK_HISTS][LLM_BOOK_BUCKETS];
extern const char     *llm_book_le[LLM_BOOK_HISTS][LLM_BOOK_BUCKETS];


/* time between the events of one stream, gathered by whoever sends it */

typedef struct {
    uint32_t              n[LLM_BOOK_BUCKETS];
    uint32_t              sum;             /* ms */
} llm_book_between_t;

/* one more pause of "ms"; needs no book */
void llm_book_between(llm_book_between_t *bt, uint32_t ms);


typedef struct llm_book_s  llm_book_t;


typedef struct {
    uint64_t              size;            /* bytes of the memory */
    uint64_t              used;            /* … of rows and names in use */
    uint64_t              rows;            /* in use */
    uint64_t              room;            /* rows there are */
    uint64_t              kind[LLM_BOOK_KINDS];       /* in use, by kind */
    uint64_t              kind_room[LLM_BOOK_KINDS];
    uint64_t              names[LLM_BOOK_NAMES];
    uint64_t              names_room[LLM_BOOK_NAMES];
    uint64_t              folded;          /* requests posted to "other" */
    uint64_t              evicted;         /* rows, before their time */
    uint64_t              posted;          /* records */
} llm_book_stat_t;


/* NULL: "size" is too small (below 512 KB); "seed" is of this memory */
llm_book_t *llm_book_create(void *mem, size_t size, const uint64_t seed[2]);

/* after a death inside the lock: ends what had been begun */
void llm_book_recover(llm_book_t *bk);

/*
 * The number of a name, a new one if need be; LLM_BOOK_OTHER when there is no
 * room.  Names stay as long as the memory does.  Longer ones are cut.
 */
uint32_t llm_book_name(llm_book_t *bk, llm_book_name_e of,
    const llm_str_t *name);

/* without the lock: UINT32_MAX if it has none yet */
uint32_t llm_book_find(const llm_book_t *bk, llm_book_name_e of,
    const llm_str_t *name);

/*
 * Without the lock, 1: there is no room for another name.  What had none just
 * before may be one of the last that there was room for.
 */
int llm_book_names_full(const llm_book_t *bk, llm_book_name_e of);

/* the name of a number, without the lock; good as long as the memory is */
void llm_book_text(const llm_book_t *bk, llm_book_name_e of, uint32_t id,
    llm_str_t *name);


/*
 * Without the lock, by the one process that has this journal (0 and up):
 * LLM_OK; LLM_AGAIN: it is full, drain it first; LLM_DECLINED: there is none
 * of this number, llm_book_post() instead.
 */
int llm_book_append(llm_book_t *bk, unsigned owner,
    const llm_book_record_t *rec);

/* the same for the pauses of a stream */
int llm_book_append_between(llm_book_t *bk, unsigned owner, uint32_t model,
    uint32_t provider, const llm_book_between_t *bt);

/* at once, with the lock */
void llm_book_post(llm_book_t *bk, const llm_book_record_t *rec);
void llm_book_post_between(llm_book_t *bk, uint32_t model, uint32_t provider,
    const llm_book_between_t *bt);

/*
 * Posts up to "n" records of one journal, or of all (LLM_BOOK_OWNERS).
 * LLM_OK: nothing is left; LLM_AGAIN: come again.
 */
int llm_book_drain(llm_book_t *bk, unsigned owner, unsigned n);

/* 1: some record waits in this journal; without the lock */
int llm_book_waits(const llm_book_t *bk, unsigned owner);


/* the period (its number) that a time is in, and when it began, s */
uint32_t llm_book_period(llm_book_kind_e kind, int64_t wall);
int64_t llm_book_start(llm_book_kind_e kind, uint32_t period);


/* rows one by one: of "total" for a page of metrics, or what has changed */

typedef struct {
    llm_book_kind_e       kind;
    uint32_t              period;
    int64_t               start;           /* of the period, s; total: 0 */
    uint32_t              status;          /* total alone */
    llm_str_t             name[LLM_BOOK_NAMES];  /* good as the memory is */
    uint64_t              number;          /* no other row of this kind in
                                              this memory ever has it */
    uint64_t              changed;
    llm_book_sums_t       sums;
} llm_book_row_t;

/*
 * Copies up to "n" rows of a kind from *cursor (0 at first) on and moves it;
 * it looks at no more than "look" of them.  The number of rows; *cursor is
 * LLM_BOOK_END behind the last one.  "since": only rows that were changed
 * after this change.  Rows that come or go meanwhile are told once or never.
 */
#define LLM_BOOK_END  UINT64_MAX

unsigned llm_book_rows(const llm_book_t *bk, llm_book_kind_e kind,
    uint64_t *cursor, uint64_t since, unsigned look, llm_book_row_t *row,
    unsigned n);

/* the last change: rows that change later have a greater number */
uint64_t llm_book_changed(const llm_book_t *bk);


typedef struct {
    llm_str_t             model;           /* good as long as the memory */
    llm_str_t             provider;
    llm_book_hist_t       hist[LLM_BOOK_HISTS];
} llm_book_hists_t;

/* the next histograms from *cursor (0) on: LLM_OK, or LLM_DECLINED: the end */
int llm_book_hists(const llm_book_t *bk, uint64_t *cursor,
    llm_book_hists_t *out);


/*
 * Latencies of one minute or hour (kind, its number): of all requests for
 * which a provider was asked, or of a model.  Percentiles are within 10 % (of
 * times below 10 ms: exact).  LLM_DECLINED: nothing is known.
 */

typedef struct {
    uint64_t              n[2];            /* measured: whole, first token */
    uint32_t              p50[2];          /* ms */
    uint32_t              p95[2];
    uint32_t              p99[2];
} llm_book_latency_t;

int llm_book_latency(const llm_book_t *bk, llm_book_kind_e kind,
    uint32_t period, const llm_str_t *model, llm_book_latency_t *out);


/*
 * A query: sums over the rows of a kind in a span of time, grouped.  Its
 * result lies in the caller's memory, and rows of other sources (another
 * gateway's) may be added to it.
 */

#define LLM_BOOK_BY(of)        (1u << (of))
#define LLM_BOOK_BY_PERIOD     (1u << LLM_BOOK_NAMES)

#define LLM_BOOK_GROUPS        10000       /* of a result, as a rule */

typedef struct {
    llm_book_kind_e       kind;
    int64_t               from;            /* s: the period it is in … */
    int64_t               to;              /* … to the last that begins
                                              before; total: both unused */
    unsigned              group;           /* LLM_BOOK_BY… bits; 0: one row */
    unsigned              filters;         /* LLM_BOOK_BY bits, with … */
    llm_str_t             filter[LLM_BOOK_NAMES];    /* … this name */
} llm_book_query_t;

typedef struct {
    int64_t               start;           /* s; 0 if not by period */
    llm_str_t             name[LLM_BOOK_NAMES];  /* empty if not by it */
    llm_book_sums_t       sums;
    uint32_t              chain;           /* private */
} llm_book_group_t;

typedef struct llm_book_result_s  llm_book_result_t;

/*
 * A result for at most "max" groups; the query, its names included, and the
 * arena must outlive it.  The arena is asked for up to some 320 bytes per
 * group.  NULL: no memory.
 */
llm_book_result_t *llm_book_result_create(const llm_book_query_t *query,
    unsigned max, llm_arena_t *arena);

/*
 * Adds a row; one out of the span or the filters is not.  LLM_OK;
 * LLM_DECLINED: too many groups; LLM_ERROR: no memory.
 */
int llm_book_result_add(llm_book_result_t *rs, int64_t start,
    const llm_str_t *name, const llm_book_sums_t *sums);

/*
 * Adds some "n" rows of the book from *cursor (0) on, of periods after
 * "after" (0: of all).  LLM_AGAIN: come again; LLM_OK: that was all;
 * LLM_DECLINED, LLM_ERROR as above.  With after 0, sums of minutes or hours
 * without filters and groups but periods are taken from those of all
 * requests, which last longer.
 */
int llm_book_result_rows(const llm_book_t *bk, llm_book_result_t *rs,
    uint32_t after, uint64_t *cursor, unsigned n);

/* the last period of which rows had to go before their time, 0: none */
uint32_t llm_book_lost(const llm_book_t *bk, llm_book_kind_e kind);

/* the groups by start and names, *n of them; good until the next add().
   NULL: no memory */
llm_book_group_t **llm_book_result_sort(llm_book_result_t *rs, unsigned *n);

/* over all groups */
void llm_book_result_total(const llm_book_result_t *rs,
    llm_book_sums_t *sums);

/* forgets what was added */
void llm_book_result_clear(llm_book_result_t *rs);


void llm_book_add(llm_book_sums_t *to, const llm_book_sums_t *sums);

void llm_book_stat(const llm_book_t *bk, llm_book_stat_t *stat);


/*
 * Puts a row of an hour, day or month back, from a file.  LLM_DECLINED: it is
 * no such row, or too old by "wall".  It is added to what is there.
 */
int llm_book_restore(llm_book_t *bk, const llm_book_row_t *row,
    int64_t wall);


/*
 * Rows of sums as text for a store: names by length, sums as decimal numbers
 * with blanks between, 0s at the end left out.  The length written; "p" has
 * room for LLM_BOOK_FIELD or LLM_BOOK_VALUE bytes.
 */
#define LLM_BOOK_FIELD  (LLM_BOOK_NAMES * (LLM_BOOK_NAME + 4))
#define LLM_BOOK_VALUE  (LLM_BOOK_SUMS * 21)

size_t llm_book_put_names(const llm_str_t *name, unsigned char *p);
size_t llm_book_put_sums(const llm_book_sums_t *sums, unsigned char *p);

/* and back: LLM_OK; LLM_ERROR: it is no such text */
int llm_book_get_names(const llm_str_t *field, llm_str_t *name);
int llm_book_get_sums(const llm_str_t *value, llm_book_sums_t *sums);


#endif /* _LLM_BOOK_H_INCLUDED_ */
