
/*
 * Copyright (C) the ngx-llm authors
 *
 * llmctl, the command line of the admin API: what its parts share.
 *
 *     main.c        where the gateway is, which command
 *     args.c        the tables of commands and options, reading them
 *     complete.c    completion scripts and help, from these tables
 *     http.c        one request, and what its status means
 *     secret.c      where the secret comes from
 *     text.c        growing text; what a terminal may be shown
 *     value.c       numbers, money and times, in and out
 *     table.c       aligned columns
 *     members.c     limits and the like: from options to JSON
 *     key.c team.c usage.c live.c cache.c tasks.c   the commands
 *     top.c         the live view: its numbers
 *     top_view.c    its picture
 *     screen.c      the terminal of the live view
 */


#ifndef _LLMCTL_H_INCLUDED_
#define _LLMCTL_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>


#define LLMCTL_VERSION  "0.1.0"
#define LLMCTL_URL      "http://127.0.0.1:8081"


/* exit codes */

enum {
    CTL_OK = 0,
    CTL_REFUSED,                        /* the API said no, or nonsense */
    CTL_USAGE,
    CTL_CONNECT,
    CTL_DENIED
};


/* growing text; memory that is not there ends the program */

typedef struct {
    char             *data;             /* ends with a zero byte, if any */
    size_t            len;
    size_t            size;
} text_t;


void *ctl_alloc(size_t size);

void text_add(text_t *t, const char *s);
void text_bytes(text_t *t, const char *s, size_t len);
void text_printf(text_t *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* percent-encoded, for a path or a query */
void text_escape(text_t *t, const char *s);

/*
 * Somebody else's text, with whatever is no printable character as \x1b or
 * \u{202e}; returns its width in columns.  At most max columns are written,
 * 0: all.
 */
int text_show(text_t *t, const char *s, int max);
int text_width(const char *s);          /* NULL is empty */
void text_free(text_t *t);


/* arguments */

typedef enum {
    OPT_URL = 0,
    OPT_SECRET_FILE,
    OPT_TIMEOUT,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION,
    OPT_TEAM,
    OPT_RPM,
    OPT_TPM,
    OPT_RPD,
    OPT_TPD,
    OPT_CONCURRENCY,
    OPT_BUDGET,
    OPT_PERIOD,
    OPT_MODELS,
    OPT_EXPIRES,
    OPT_METADATA,
    OPT_PRIORITY,
    OPT_SET,
    OPT_SHA256,
    OPT_REPLACE,
    OPT_SOURCE,
    OPT_CUT,
    OPT_GRACE,
    OPT_UNTIL,
    OPT_NONE,
    OPT_KEY,
    OPT_MODEL,
    OPT_PROVIDER,
    OPT_MINUTE,
    OPT_HOUR,
    OPT_DAY,
    OPT_MONTH,
    OPT_FROM,
    OPT_TO,
    OPT_BY,
    OPT_SUM,
    OPT_ALL,
    OPT_NAMESPACE,
    OPT_DIGEST,
    OPT_LIMIT,
    OPT_AFTER,
    OPT_INTERVAL,
    OPTIONS
} opt_t;

#define CTL_SETS  32

typedef struct command_s  command_t;

typedef struct {
    const command_t  *command;
    const char       *name;             /* NAME, NULL if none was given */
    const char       *values[OPTIONS];  /* NULL: not given; "" for a flag */
    const char       *sets[CTL_SETS];   /* --set, as often as given */
    size_t            nsets;
} args_t;

typedef struct {
    const char       *name;
    const char       *value;            /* what it takes, NULL: a flag */
    const char       *help;
} option_t;

typedef enum {
    NAME_NONE = 0,
    NAME_NEEDED,
    NAME_OPTIONAL
} name_t;

struct command_s {
    const char       *group;
    const char       *verb;             /* NULL: the group is all */
    int             (*run)(args_t *a);
    name_t            name;
    const char       *what;             /* the name's, in the help */
    uint64_t          options;          /* bits by opt_t */
    const char       *help;
};

#define OPT_BIT(o)  ((uint64_t) 1 << (o))

extern const option_t   ctl_options[];
extern const command_t  ctl_commands[];
extern const uint64_t   ctl_common;     /* options of every command */

/* CTL_OK or CTL_USAGE, with a message on stderr */
int args_read(args_t *a, int argc, char **argv);
void args_help(const args_t *a);
int args_wrong(const args_t *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int complete_run(args_t *a);


/*
 * From --secret-file, LLMCTL_SECRET, LLMCTL_SECRET_FILE, or of "make run" for
 * a URL of this machine; empty if there is none.
 */
int secret_find(const args_t *a, const char *url, text_t *secret);


/* requests */

typedef struct {
    long              status;
    text_t            body;
    json_t           *json;             /* NULL: none, or not read */
} answer_t;

/*
 * Sends a request to PATH under /admin/v1 and reads the answer; returns an
 * exit code.  http_try() leaves the reason in http_error, http_call() writes
 * it to stderr, too, and with --json the answer to stdout.  The answer is to
 * be freed in any case.
 */
int http_init(const args_t *a);
int http_try(const char *method, const char *path, json_t *body,
    answer_t *answer);
int http_call(const args_t *a, const char *method, const char *path,
    json_t *body, answer_t *answer);
void http_free(answer_t *answer);

/* asked once a second at least while a request runs; not 0 ends it */
void http_watch(int (*stop)(void), long timeout_ms);

/* an answer that is not what the API promises; returns CTL_REFUSED */
int http_malformed(const char *what);

/*
 * Gets all pages of a list, calling row() for each of its objects; with --json
 * the pages are written as they are.
 */
int http_list(const args_t *a, const char *path,
    void (*row)(void *data, json_t *object), void *data);

extern text_t  http_error;
const char *http_url(void);


/* members of answers: NULL and NAN if not there or of another type */

const char *member_str(json_t *object, const char *name);
double member_num(json_t *object, const char *name);
int member_flag(json_t *object, const char *name);


/* values */

void value_count(text_t *t, double n);          /* 1.2 M; "-" for NAN */
void value_usd(text_t *t, double usd);
void value_bytes(text_t *t, double n);
void value_ms(text_t *t, double ms);
void value_ratio(text_t *t, double part, double whole);
void value_span(text_t *t, double seconds);     /* 3 d 4 h */
void value_time(text_t *t, const char *iso);    /* without T and Z */

/* what is wrong is told by the result, -1; the end of the text counts */
int value_read_int(const char *s, int64_t *n);          /* 20k, 2M */
int value_read_span(const char *s, int64_t *seconds);   /* 90s 15m 6h 1d 2w */

/*
 * A date, date and time (UTC), seconds since the epoch, or from now: +2d, -6h;
 * written as the API takes it.
 */
int value_read_time(const char *s, time_t now, text_t *iso);
time_t value_iso(const char *iso);              /* -1: no time */


/* tables */

#define TABLE_COLUMNS  16

typedef enum {
    STYLE_NONE = 0,
    STYLE_BOLD,
    STYLE_DIM,
    STYLE_GOOD,
    STYLE_WARN,
    STYLE_BAD
} style_t;

typedef struct {
    text_t            text;
    int               width;
    style_t           style;
} cell_t;

typedef struct {
    const char       *titles[TABLE_COLUMNS];    /* ">X": to the right */
    int               columns;
    cell_t           *cells;
    size_t            ncells;
    size_t            size;
} table_t;

void table_init(table_t *t, const char *const *titles);
cell_t *table_cell(table_t *t);                 /* the next one, empty */
void table_text(table_t *t, const char *s);     /* somebody else's; NULL: - */
void table_count(table_t *t, double n);
void table_usd(table_t *t, double usd);
void table_done(cell_t *c);                     /* its text is complete */
size_t table_rows(const table_t *t);

/* by the first column: the API sorts within a page */
void table_sort(table_t *t);

/* lines of at most width columns (0: any), at most max rows (0: all) */
void table_write(const table_t *t, text_t *out, int width, size_t max);
void table_print(const table_t *t);
void table_free(table_t *t);

int style_on(void);
void style_begin(text_t *out, style_t style);
void style_end(text_t *out, style_t style);

/* an object's members, one per line */
void show_object(json_t *object, const char *const *skip);


/* the members of a key or a team that the options give */

int members_read(const args_t *a, json_t *object, int create);

/* "?name=value", then "&name=value"; nothing for NULL */
void query_add(text_t *path, const char *name, const char *value);
int query_time(const args_t *a, text_t *path, opt_t option);


/* commands */

int key_create(args_t *a);
int key_list(args_t *a);
int key_show(args_t *a);
int key_set(args_t *a);
int key_disable(args_t *a);
int key_enable(args_t *a);
int key_delete(args_t *a);
int key_rotate(args_t *a);
int key_raise(args_t *a);
int team_list(args_t *a);
int team_show(args_t *a);
int team_set(args_t *a);
int team_delete(args_t *a);
int usage_run(args_t *a);
int cache_purge(args_t *a);
int breakers_run(args_t *a);
int breakers_reset(args_t *a);
int slots_run(args_t *a);
int status_run(args_t *a);
int tasks_run(args_t *a);
int tasks_dead(args_t *a);
int tasks_cancel(args_t *a);
int tasks_purge(args_t *a);
int top_run(args_t *a);

void breakers_table(table_t *t, json_t *object);
extern const char *const  breakers_titles[];

/* how many there are, and for how long the next one has waited */
void tasks_now(text_t *out, json_t *s);

/* the head of a line of status */
void status_line(text_t *out, const char *name);


/* the live view */

typedef struct {
    answer_t          status;
    answer_t          slots;
    answer_t          breakers;
    answer_t          usage;
    answer_t          tasks;            /* none without a queue */
    double            at;               /* monotonic, seconds */
    double            requests;         /* of the day, so far */
    double            tokens;
    double            requests_per_s;   /* NAN: not known */
    double            tokens_per_s;
} top_t;

/* columns and lines 0: as much as there is; trouble: NULL, or what is wrong */
void top_draw(const top_t *t, const char *trouble, text_t *out, int columns,
    int lines);
double top_tokens(json_t *sums);

int screen_open(void);
void screen_close(void);
void screen_size(int *columns, int *lines);
void screen_draw(const text_t *lines);

/* waits; 'q', 'r' for a key or a resized window, 0 when the time is over */
int screen_wait(int64_t ms);
int screen_quits(void);                 /* "q" was pressed */


#endif /* _LLMCTL_H_INCLUDED_ */
