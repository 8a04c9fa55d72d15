
/*
 * Copyright (C) the ngx-llm authors
 *
 * For tests only: a location that sends letters and tells which have come.
 *
 *     ?do=pid ?do=name ?do=stat
 *     ?do=send&to=name&seq=N&n=N&size=N    letters N, N + 1, ...
 *     ?do=post&seq=N&n=N&size=N            to all
 *     ?do=time&to=name                     one that measures its way
 *     ?do=got                              what came since the last time
 *     &other=1                             the second inbox
 */


#include "state/ngx_http_llm_inbox.h"

#include <ngx_http.h>
#include <ngx_md5.h>


#define NGX_HTTP_LLM_TEST_INBOXES  2
#define NGX_HTTP_LLM_TEST_LETTERS  16384
#define NGX_HTTP_LLM_TEST_HEAD     16
#define NGX_HTTP_LLM_TEST_LINE     128
#define NGX_HTTP_LLM_TEST_SIZE     2097152


typedef struct {
    ngx_uint_t                 board;
    uint64_t                   id;
    size_t                     len;
    u_char                     md5[16];
    u_char                     head[NGX_HTTP_LLM_TEST_HEAD];
} ngx_http_llm_test_letter_t;


typedef struct {
    ngx_http_llm_redis_t        *redis;
    ngx_http_llm_inbox_t        *inbox;

    ngx_http_llm_test_letter_t  *letters;
    ngx_uint_t                   nletters;
    uint64_t                    *times;       /* ns */
    ngx_uint_t                   ntimes;
    ngx_uint_t                   got;
    ngx_uint_t                   ups;
} ngx_http_llm_test_inbox_t;


typedef struct {
    ngx_http_llm_test_inbox_t   inboxes[NGX_HTTP_LLM_TEST_INBOXES];
    ngx_uint_t                  ninboxes;
} ngx_http_llm_test_inbox_conf_t;


static void *ngx_http_llm_test_inbox_create(ngx_conf_t *cf);
static char *ngx_http_llm_test_inbox(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_inbox_zone(ngx_shm_zone_t *zone,
    void *data);
static char *ngx_http_llm_test_inbox_run(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_inbox_init(ngx_cycle_t *cycle);
static void ngx_http_llm_test_inbox_exit(ngx_cycle_t *cycle);

static void ngx_http_llm_test_inbox_first(ngx_str_t *letter, ngx_uint_t board,
    uint64_t id);
static void ngx_http_llm_test_inbox_second(ngx_str_t *letter,
    ngx_uint_t board, uint64_t id);
static void ngx_http_llm_test_inbox_came(ngx_http_llm_test_inbox_t *ti,
    ngx_str_t *letter, ngx_uint_t board, uint64_t id);
static void ngx_http_llm_test_inbox_up_first(void);
static void ngx_http_llm_test_inbox_up_second(void);

static ngx_int_t ngx_http_llm_test_inbox_handler(ngx_http_request_t *r);
static u_char *ngx_http_llm_test_inbox_got(ngx_http_llm_test_inbox_t *ti,
    u_char *p);
static u_char *ngx_http_llm_test_inbox_stat(ngx_http_llm_test_inbox_t *ti,
    u_char *p);
static u_char *ngx_http_llm_test_inbox_send(ngx_http_request_t *r,
    ngx_http_llm_test_inbox_t *ti, ngx_str_t *to, u_char *p);
static u_char *ngx_http_llm_test_inbox_time(ngx_http_llm_test_inbox_t *ti,
    ngx_str_t *to, u_char *p);
static ngx_uint_t ngx_http_llm_test_inbox_number(ngx_http_request_t *r,
    const char *name, ngx_uint_t other);
static uint64_t ngx_http_llm_test_inbox_now(void);
static int ngx_libc_cdecl ngx_http_llm_test_inbox_cmp(const void *one,
    const void *two);


static ngx_http_llm_test_inbox_conf_t  *ngx_http_llm_test_inbox_conf;


static ngx_command_t  ngx_http_llm_test_inbox_commands[] = {

    { ngx_string("llm_test_inbox"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_llm_test_inbox,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_test_inbox_run"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_test_inbox_run,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_test_inbox_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */
    ngx_http_llm_test_inbox_create,        /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_llm_test_inbox_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_test_inbox_ctx,          /* module context */
    ngx_http_llm_test_inbox_commands,      /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_llm_test_inbox_init,          /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_llm_test_inbox_exit,          /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* what configure would have written */

ngx_module_t  *ngx_modules[] = { &ngx_http_llm_test_inbox_module, NULL };
char  *ngx_module_names[] = { "ngx_http_llm_test_inbox_module", NULL };
char  *ngx_module_order[] = { NULL };


static void *
ngx_http_llm_test_inbox_create(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_test_inbox_conf_t));
}


static char *
ngx_http_llm_test_inbox(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_test_inbox_conf_t *tcf = conf;

    ngx_str_t                  *value, name;
    ngx_shm_zone_t             *zone;
    ngx_http_llm_test_inbox_t  *ti;

    value = cf->args->elts;

    if (tcf->ninboxes == NGX_HTTP_LLM_TEST_INBOXES) {
        return "is too much";
    }

    ti = &tcf->inboxes[tcf->ninboxes++];

    ti->redis = ngx_http_llm_redis_create(cf, &value[1]);
    if (ti->redis == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_http_llm_redis_options(ti->redis)->timeout =
                                       ngx_atoi(value[2].data, value[2].len);

    ti->inbox = ngx_http_llm_inbox_create(cf, &value[1], ti->redis);
    if (ti->inbox == NULL) {
        return NGX_CONF_ERROR;
    }

    ti->letters = ngx_pcalloc(cf->pool, NGX_HTTP_LLM_TEST_LETTERS
                              * sizeof(ngx_http_llm_test_letter_t));
    ti->times = ngx_pcalloc(cf->pool, NGX_HTTP_LLM_TEST_LETTERS
                            * sizeof(uint64_t));

    name = value[1];
    zone = ngx_shared_memory_add(cf, &name, 8 * ngx_pagesize,
                                 &ngx_http_llm_test_inbox_module);

    if (ti->letters == NULL || ti->times == NULL || zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->init = ngx_http_llm_test_inbox_zone;
    zone->data = ti;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_test_inbox_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t            *pool;
    ngx_http_llm_test_inbox_t  *ti;

    pool = (ngx_slab_pool_t *) zone->shm.addr;
    ti = zone->data;

    if (data == NULL) {
        pool->data = ngx_slab_calloc(pool,
                                     sizeof(ngx_http_llm_redis_shared_t));
        if (pool->data == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_http_llm_redis_share(ti->redis, pool->data);

    return NGX_OK;
}


static char *
ngx_http_llm_test_inbox_run(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_llm_test_inbox_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_test_inbox_init(ngx_cycle_t *cycle)
{
    ngx_uint_t                       i;
    ngx_http_llm_test_inbox_t       *ti;
    ngx_http_llm_test_inbox_conf_t  *tcf;

    tcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_llm_test_inbox_module);
    ngx_http_llm_test_inbox_conf = tcf;

    for (i = 0; i < tcf->ninboxes; i++) {
        ti = &tcf->inboxes[i];

        if (ngx_http_llm_redis_init_process(ti->redis, cycle) != NGX_OK
            || ngx_http_llm_inbox_init_process(ti->inbox, cycle,
                   i ? ngx_http_llm_test_inbox_second
                     : ngx_http_llm_test_inbox_first,
                   i ? ngx_http_llm_test_inbox_up_second
                     : ngx_http_llm_test_inbox_up_first)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_llm_test_inbox_exit(ngx_cycle_t *cycle)
{
    ngx_uint_t                       i;
    ngx_http_llm_test_inbox_conf_t  *tcf;

    tcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_llm_test_inbox_module);

    for (i = 0; i < tcf->ninboxes; i++) {
        ngx_http_llm_inbox_exit_process(tcf->inboxes[i].inbox);
        ngx_http_llm_redis_exit_process(tcf->inboxes[i].redis);
    }
}


static void
ngx_http_llm_test_inbox_first(ngx_str_t *letter, ngx_uint_t board,
    uint64_t id)
{
    ngx_http_llm_test_inbox_came(&ngx_http_llm_test_inbox_conf->inboxes[0],
                                 letter, board, id);
}


static void
ngx_http_llm_test_inbox_second(ngx_str_t *letter, ngx_uint_t board,
    uint64_t id)
{
    ngx_http_llm_test_inbox_came(&ngx_http_llm_test_inbox_conf->inboxes[1],
                                 letter, board, id);
}


static void
ngx_http_llm_test_inbox_came(ngx_http_llm_test_inbox_t *ti, ngx_str_t *letter,
    ngx_uint_t board, uint64_t id)
{
    size_t                       len;
    uint64_t                     sent;
    ngx_md5_t                    md5;
    ngx_http_llm_test_letter_t  *l;

    ti->got++;

    if (letter->len == 1 + sizeof(uint64_t) && letter->data[0] == 'T') {
        ngx_memcpy(&sent, letter->data + 1, sizeof(uint64_t));

        if (ti->ntimes < NGX_HTTP_LLM_TEST_LETTERS) {
            ti->times[ti->ntimes++] = ngx_http_llm_test_inbox_now() - sent;
        }

        return;
    }

    if (ti->nletters == NGX_HTTP_LLM_TEST_LETTERS) {
        return;
    }

    l = &ti->letters[ti->nletters++];

    l->board = board;
    l->id = id;
    l->len = letter->len;

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, letter->data, letter->len);
    ngx_md5_final(l->md5, &md5);

    len = ngx_min(letter->len, NGX_HTTP_LLM_TEST_HEAD - 1);
    ngx_memcpy(l->head, letter->data, len);
    l->head[len] = '\0';
    l->head[strcspn((char *) l->head, ":")] = '\0';
}


static void
ngx_http_llm_test_inbox_up_first(void)
{
    ngx_http_llm_test_inbox_conf->inboxes[0].ups++;
}


static void
ngx_http_llm_test_inbox_up_second(void)
{
    ngx_http_llm_test_inbox_conf->inboxes[1].ups++;
}


static ngx_int_t
ngx_http_llm_test_inbox_handler(ngx_http_request_t *r)
{
    u_char                     *p;
    ngx_buf_t                  *b;
    ngx_int_t                   rc;
    ngx_str_t                   what, to;
    ngx_chain_t                 out;
    ngx_http_llm_test_inbox_t  *ti;

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_LLM_TEST_SIZE);

    if (b == NULL
        || ngx_http_arg(r, (u_char *) "do", 2, &what) != NGX_OK)
    {
        return NGX_HTTP_BAD_REQUEST;
    }

    if (ngx_http_arg(r, (u_char *) "to", 2, &to) != NGX_OK) {
        ngx_str_null(&to);
    }

    ti = &ngx_http_llm_test_inbox_conf->inboxes[
                            ngx_http_llm_test_inbox_number(r, "other", 0)];
    p = b->last;

    switch (what.data[0]) {

    case 'p': /* pid, post */
        p = what.len == 3 ? ngx_sprintf(p, "%P", ngx_pid)
                          : ngx_http_llm_test_inbox_send(r, ti, NULL, p);
        break;

    case 'n': /* name */
        p = ngx_sprintf(p, "%V", ngx_http_llm_inbox_name(ti->inbox));
        break;

    case 's': /* stat, send */
        p = what.data[1] == 't'
            ? ngx_http_llm_test_inbox_stat(ti, p)
            : ngx_http_llm_test_inbox_send(r, ti, &to, p);
        break;

    case 't': /* time */
        p = ngx_http_llm_test_inbox_time(ti, &to, p);
        break;

    default: /* got */
        p = ngx_http_llm_test_inbox_got(ti, p);
        break;
    }

    *p++ = LF;

    b->last = p;
    b->last_buf = 1;

    out.buf = b;
    out.next = NULL;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = b->last - b->pos;
    ngx_str_set(&r->headers_out.content_type, "text/plain");

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, &out);
}


static u_char *
ngx_http_llm_test_inbox_got(ngx_http_llm_test_inbox_t *ti, u_char *p)
{
    ngx_uint_t                   i;
    ngx_http_llm_test_letter_t  *l;

    for (i = 0; i < ti->nletters; i++) {
        l = &ti->letters[i];

        p = ngx_sprintf(p, "%ui %uL %uz ", l->board, l->id, l->len);
        p = ngx_hex_dump(p, l->md5, sizeof(l->md5));
        p = ngx_sprintf(p, " %s\n", l->head);
    }

    ti->nletters = 0;

    return p;
}


static u_char *
ngx_http_llm_test_inbox_stat(ngx_http_llm_test_inbox_t *ti, u_char *p)
{
    uint64_t                    median, late;
    ngx_http_llm_redis_stat_t  *st;

    median = 0;
    late = 0;

    if (ti->ntimes != 0) {
        ngx_qsort(ti->times, ti->ntimes, sizeof(uint64_t),
                  ngx_http_llm_test_inbox_cmp);
        median = ti->times[ti->ntimes / 2];
        late = ti->times[ti->ntimes * 99 / 100];
    }

    st = ngx_http_llm_redis_stat(ti->redis);

    return ngx_sprintf(p, "ready=%ui ups=%ui got=%ui times=%ui median=%uL "
                       "late=%uL commands=%uL timeouts=%uL reconnects=%uL",
                       ngx_http_llm_inbox_ready(ti->inbox), ti->ups, ti->got,
                       ti->ntimes, median / 1000, late / 1000, st->commands,
                       st->timeouts, st->reconnects);
}


/* in three pieces, one of them empty; "S", the number, ":", all bytes */

static u_char *
ngx_http_llm_test_inbox_send(ngx_http_request_t *r,
    ngx_http_llm_test_inbox_t *ti, ngx_str_t *to, u_char *p)
{
    u_char      *data, head[NGX_INT_T_LEN + 2];
    size_t       size, j;
    ngx_int_t    rc;
    ngx_str_t    piece[3];
    ngx_uint_t   i, seq, n, sent;

    seq = ngx_http_llm_test_inbox_number(r, "seq", 0);
    n = ngx_http_llm_test_inbox_number(r, "n", 1);
    size = ngx_http_llm_test_inbox_number(r, "size", 0);
    sent = 0;

    data = ngx_palloc(r->pool, size + 1);
    if (data == NULL) {
        return p;
    }

    for (i = seq; i < seq + n; i++) {
        piece[0].data = head;
        piece[0].len = ngx_sprintf(head, "S%ui:", i) - head;
        ngx_str_null(&piece[1]);
        piece[2].data = data;
        piece[2].len = size > piece[0].len ? size - piece[0].len : 0;

        for (j = 0; j < piece[2].len; j++) {
            data[j] = (u_char) (i * 31 + (j + piece[0].len) * 7);
        }

        rc = to != NULL
             ? ngx_http_llm_inbox_send(ti->inbox, to, piece, 3)
             : ngx_http_llm_inbox_post_all(ti->inbox, piece, 3);

        sent += (rc == NGX_OK);
    }

    return ngx_sprintf(p, "sent=%ui declined=%ui", sent, n - sent);
}


static u_char *
ngx_http_llm_test_inbox_time(ngx_http_llm_test_inbox_t *ti, ngx_str_t *to,
    u_char *p)
{
    u_char      letter[1 + sizeof(uint64_t)];
    uint64_t    now;
    ngx_str_t   piece;

    now = ngx_http_llm_test_inbox_now();

    letter[0] = 'T';
    ngx_memcpy(letter + 1, &now, sizeof(uint64_t));

    piece.data = letter;
    piece.len = sizeof(letter);

    return ngx_sprintf(p, "%i", ngx_http_llm_inbox_send(ti->inbox, to, &piece,
                                                        1));
}


static ngx_uint_t
ngx_http_llm_test_inbox_number(ngx_http_request_t *r, const char *name,
    ngx_uint_t other)
{
    ngx_str_t  value;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &value) != NGX_OK) {
        return other;
    }

    return ngx_atoi(value.data, value.len);
}


static uint64_t
ngx_http_llm_test_inbox_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


static int ngx_libc_cdecl
ngx_http_llm_test_inbox_cmp(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(const uint64_t *) one;
    b = *(const uint64_t *) two;

    return a < b ? -1 : a > b;
}
