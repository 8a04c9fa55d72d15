
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_event.h"

#include <hiredis/sds.h>

#include <poll.h>


/* the shortest element of an array on the wire, ":0" and its line end */
#define NGX_HTTP_LLM_REDIS_ELEMENT  4


#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_http_llm_redis_nelts_t;
#else
typedef int     ngx_http_llm_redis_nelts_t;
#endif


static ngx_int_t ngx_http_llm_redis_event_attach(
    ngx_http_llm_redis_event_t *ev, redisAsyncContext *ac);
static void ngx_http_llm_redis_event_bound(ngx_http_llm_redis_event_t *ev);
static void ngx_http_llm_redis_event_connected(const redisAsyncContext *ac,
    int status);
static void ngx_http_llm_redis_event_read(ngx_event_t *rev);
static void ngx_http_llm_redis_event_write(ngx_event_t *wev);
static void ngx_http_llm_redis_event_add_read(void *data);
static void ngx_http_llm_redis_event_del_read(void *data);
static void ngx_http_llm_redis_event_add_write(void *data);
static void ngx_http_llm_redis_event_del_write(void *data);
static void ngx_http_llm_redis_event_cleanup(void *data);
static void ngx_http_llm_redis_event_reason(ngx_http_llm_redis_event_t *ev);

static ngx_int_t ngx_http_llm_redis_event_admit(const redisReadTask *task,
    size_t size);
static void *ngx_http_llm_redis_event_create_string(const redisReadTask *task,
    char *str, size_t len);
static void *ngx_http_llm_redis_event_create_array(const redisReadTask *task,
    ngx_http_llm_redis_nelts_t nelts);
static void *ngx_http_llm_redis_event_create_integer(
    const redisReadTask *task, long long value);
static void *ngx_http_llm_redis_event_create_nil(const redisReadTask *task);


/* hiredis' own functions and the same with a bound on what they may build */

static redisReplyObjectFunctions   ngx_http_llm_redis_event_default;
static redisReplyObjectFunctions   ngx_http_llm_redis_event_bounded;


ngx_int_t
ngx_http_llm_redis_event_open(ngx_http_llm_redis_event_t *ev,
    ngx_addr_t *addr)
{
    char                *why;
    size_t               len;
    u_char               host[NGX_SOCKADDR_STRLEN];
    struct sockaddr_un  *saun;
    redisAsyncContext   *ac;

    ev->connected = 0;
    ev->flushing = 0;
    ev->closing = 0;
    ev->reply_size = 0;
    ev->why = NULL;

    if (addr->sockaddr->sa_family == AF_UNIX) {
        saun = (struct sockaddr_un *) addr->sockaddr;
        ac = redisAsyncConnectUnix(saun->sun_path);

    } else {
        /* an address and not a name: hiredis would block to resolve it */
        len = ngx_sock_ntop(addr->sockaddr, addr->socklen, host,
                            NGX_SOCKADDR_STRLEN - 1, 0);
        host[len] = '\0';

        ac = redisAsyncConnect((char *) host,
                               ngx_inet_get_port(addr->sockaddr));
    }

    if (ac == NULL) {
        why = "out of memory";

    } else if (ac->err) {
        why = ac->errstr;

    } else if (ngx_http_llm_redis_event_attach(ev, ac) != NGX_OK) {
        why = "no free connection";

    } else {
        return NGX_OK;
    }

    (void) ngx_cpystrn((u_char *) ev->text, (u_char *) why, sizeof(ev->text));

    if (ac != NULL) {
        redisAsyncFree(ac);
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_redis_event_attach(ngx_http_llm_redis_event_t *ev,
    redisAsyncContext *ac)
{
    ngx_connection_t  *c;

    if (fcntl(ac->c.fd, F_SETFD, FD_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_ERR, ev->log, ngx_errno,
                      "fcntl(FD_CLOEXEC) failed");
    }

    if (ac->c.connection_type == REDIS_CONN_TCP) {
        /* an idle connection should not be forgotten on its way */
        (void) redisEnableKeepAlive(&ac->c);
    }

    c = ngx_get_connection(ac->c.fd, ev->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    /*
     * never "idle": a worker that drains needs it to settle its requests,
     * and it does not keep a worker that has none
     */

    c->data = ev;
    c->log = ev->log;
    c->read->log = ev->log;
    c->write->log = ev->log;
    c->read->handler = ngx_http_llm_redis_event_read;
    c->write->handler = ngx_http_llm_redis_event_write;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);

    ev->ac = ac;
    ev->connection = c;

    ac->data = ev;
    ac->ev.data = ev;
    ac->ev.addRead = ngx_http_llm_redis_event_add_read;
    ac->ev.delRead = ngx_http_llm_redis_event_del_read;
    ac->ev.addWrite = ngx_http_llm_redis_event_add_write;
    ac->ev.delWrite = ngx_http_llm_redis_event_del_write;
    ac->ev.cleanup = ngx_http_llm_redis_event_cleanup;

    ngx_http_llm_redis_event_bound(ev);

    /* waits for the socket to become writable: connected */
    (void) redisAsyncSetConnectCallback(ac,
                                        ngx_http_llm_redis_event_connected);

    return NGX_OK;
}


/* puts the functions that bound a reply between hiredis and its own */

static void
ngx_http_llm_redis_event_bound(ngx_http_llm_redis_event_t *ev)
{
    redisReader  *reader;

    reader = ev->ac->c.reader;

    ngx_http_llm_redis_event_default = *reader->fn;
    ngx_http_llm_redis_event_bounded = *reader->fn;
    ngx_http_llm_redis_event_bounded.createString =
                                       ngx_http_llm_redis_event_create_string;
    ngx_http_llm_redis_event_bounded.createArray =
                                       ngx_http_llm_redis_event_create_array;
    ngx_http_llm_redis_event_bounded.createInteger =
                                       ngx_http_llm_redis_event_create_integer;
    ngx_http_llm_redis_event_bounded.createNil =
                                       ngx_http_llm_redis_event_create_nil;

    reader->fn = &ngx_http_llm_redis_event_bounded;
    reader->privdata = ev;
}


static void
ngx_http_llm_redis_event_connected(const redisAsyncContext *ac, int status)
{
    ngx_http_llm_redis_event_t  *ev;

    ev = ac->data;

    if (status != REDIS_OK) {
        /* hiredis cleans up next */
        return;
    }

    ev->connected = 1;
    ev->opened(ev->data);
}


void
ngx_http_llm_redis_event_close(ngx_http_llm_redis_event_t *ev)
{
    if (ev->ac == NULL || ev->closing) {
        return;
    }

    ev->closing = 1;

    /* from a callback of hiredis the rest follows when that returns */
    redisAsyncFree(ev->ac);
}


ngx_int_t
ngx_http_llm_redis_event_send(ngx_http_llm_redis_event_t *ev,
    redisCallbackFn *fn, void *data, u_char *command, size_t len)
{
    redisContext       *c;
    redisAsyncContext  *ac;

    ac = ev->ac;

    if (ac == NULL) {
        return NGX_ERROR;
    }

    c = &ac->c;

    if (c->err || sdslen(c->obuf) + len > ev->max_unsent) {
        return NGX_ERROR;
    }

    if (redisAsyncFormattedCommand(ac, fn, data, (char *) command, len)
        != REDIS_OK)
    {
        if (c->err) {

            /* hiredis 1 had no memory: it refuses all that follows, and
               nothing but an event ends the connection */

            ngx_http_llm_redis_event_add_write(ev);
        }

        return NGX_ERROR;
    }

    if (ac->replies.tail == NULL || ac->replies.tail->privdata != data) {

        /*
         * hiredis had no memory for the callback and did not say so: with
         * the command sent, each reply would go to the wrong caller.  The
         * error ends the connection in the write event that is now posted
         */

        c->err = REDIS_ERR_OOM;
        (void) ngx_cpystrn((u_char *) c->errstr, (u_char *) "out of memory",
                           sizeof(c->errstr));
        return NGX_ERROR;
    }

    return NGX_OK;
}


size_t
ngx_http_llm_redis_event_unsent(ngx_http_llm_redis_event_t *ev)
{
    return ev->ac != NULL ? sdslen(ev->ac->c.obuf) : 0;
}


ngx_int_t
ngx_http_llm_redis_event_drain(ngx_http_llm_redis_event_t *ev)
{
    int  n;

    if (ev->ac == NULL || !ev->connected || ev->closing) {
        return NGX_AGAIN;
    }

    if (ngx_socket_nread(ev->connection->fd, &n) == -1 || n <= 0) {
        return NGX_AGAIN;
    }

    ngx_http_llm_redis_event_read(ev->connection->read);

    return NGX_OK;
}


void
ngx_http_llm_redis_event_flush(ngx_http_llm_redis_event_t *ev)
{
    if (ev->ac != NULL && ev->connected && !ev->closing) {
        (void) redisBufferWrite(&ev->ac->c, NULL);
    }
}


ngx_int_t
ngx_http_llm_redis_event_wait(ngx_http_llm_redis_event_t *ev, ngx_msec_t msec)
{
    int            n;
    struct pollfd  pfd;

    if (ev->ac == NULL || !ev->connected || ev->closing) {
        return NGX_ERROR;
    }

    ngx_http_llm_redis_event_flush(ev);

    pfd.fd = ev->connection->fd;
    pfd.events = POLLIN;
    pfd.revents = 0;

    if (ngx_http_llm_redis_event_unsent(ev) > 0) {
        pfd.events |= POLLOUT;
    }

    n = poll(&pfd, 1, (int) msec);

    ngx_time_update();

    if (n == -1) {
        return ngx_errno == NGX_EINTR ? NGX_OK : NGX_ERROR;
    }

    if (n == 0) {
        return NGX_ERROR;
    }

    if (pfd.revents & (POLLIN|POLLERR|POLLHUP)) {
        ngx_http_llm_redis_event_read(ev->connection->read);
    }

    return NGX_OK;
}


static void
ngx_http_llm_redis_event_read(ngx_event_t *rev)
{
    redisReader                 *reader;
    ngx_connection_t            *c;
    ngx_http_llm_redis_event_t  *ev;

    c = rev->data;
    ev = c->data;

    if (c->close) {

        /*
         * worker_shutdown_timeout closes every connection; what the end of
         * the clients' settles still needs this one, it goes with the worker
         */

        c->close = 0;
        return;
    }

    redisAsyncHandleRead(ev->ac);

    /* now ev->ac may have been freed, and then it is NULL */

    if (ev->ac == NULL) {
        return;
    }

    reader = ev->ac->c.reader;

    if (reader->len - reader->pos > ev->max_reply) {
        ev->why = "a reply is larger than allowed";
        redisAsyncFree(ev->ac);
    }
}


static void
ngx_http_llm_redis_event_write(ngx_event_t *wev)
{
    ngx_connection_t            *c;
    ngx_http_llm_redis_event_t  *ev;

    c = wev->data;
    ev = c->data;

    ev->flushing = 1;

    redisAsyncHandleWrite(ev->ac);

    ev->flushing = 0;
}


/*
 * All events are level-triggered, since hiredis reads and writes once and
 * returns; NGX_LEVEL_EVENT and not ngx_handle_read_event() sees to that.
 */

static void
ngx_http_llm_redis_event_add_read(void *data)
{
    ngx_http_llm_redis_event_t  *ev = data;

    ngx_event_t  *rev;

    rev = ev->connection->read;

    if (!rev->active) {
        (void) ngx_add_event(rev, NGX_READ_EVENT, NGX_LEVEL_EVENT);
    }
}


static void
ngx_http_llm_redis_event_del_read(void *data)
{
    ngx_http_llm_redis_event_t  *ev = data;

    ngx_event_t  *rev;

    rev = ev->connection->read;

    if (rev->active) {
        (void) ngx_del_event(rev, NGX_READ_EVENT, 0);
    }
}


static void
ngx_http_llm_redis_event_add_write(void *data)
{
    ngx_http_llm_redis_event_t  *ev = data;

    ngx_event_t  *wev;

    wev = ev->connection->write;

    if (wev->active) {
        return;
    }

    if (ev->connected && !ev->flushing) {

        /*
         * an open connection is nearly always writable: one write at the end
         * of the turn takes all its commands and saves two epoll_ctl()
         */

        ngx_post_event(wev, &ngx_posted_events);
        return;
    }

    (void) ngx_add_event(wev, NGX_WRITE_EVENT, NGX_LEVEL_EVENT);
}


static void
ngx_http_llm_redis_event_del_write(void *data)
{
    ngx_http_llm_redis_event_t  *ev = data;

    ngx_event_t  *wev;

    wev = ev->connection->write;

    if (wev->active) {
        (void) ngx_del_event(wev, NGX_WRITE_EVENT, 0);
    }
}


/* hiredis is about to free the context and to close the descriptor itself */

static void
ngx_http_llm_redis_event_cleanup(void *data)
{
    ngx_http_llm_redis_event_t  *ev = data;

    ngx_connection_t  *c;

    c = ev->connection;

    ngx_http_llm_redis_event_del_read(ev);
    ngx_http_llm_redis_event_del_write(ev);

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    c->read->closed = 1;
    c->write->closed = 1;

    /* looks at c->fd, which is to be invalid afterwards for stale events */
    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;

    ngx_http_llm_redis_event_reason(ev);

    ev->ac = NULL;
    ev->connection = NULL;
    ev->connected = 0;

    if (!ev->closing) {
        ev->closed(ev->data, ev->text);
    }
}


static void
ngx_http_llm_redis_event_reason(ngx_http_llm_redis_event_t *ev)
{
    char          *why;
    ssize_t        n;
    redisContext  *c;

    c = &ev->ac->c;
    why = ev->why ? ev->why : c->errstr;

    if (ev->connected && ev->why == NULL && c->err == REDIS_ERR_IO) {

        /* a server with too many clients says so, closes, and a write fails */

        n = recv(c->fd, ev->text, sizeof(ev->text) - 1, 0);

        if (n > 0 && ev->text[0] == '-') {
            ev->text[n] = '\0';
            ev->text[strcspn(ev->text, CRLF)] = '\0';
            return;
        }
    }

    (void) ngx_cpystrn((u_char *) ev->text, (u_char *) why, sizeof(ev->text));
}


/*
 * A refused object makes hiredis close the connection.  Besides too large
 * ones that is a reply that nobody waits for: hiredis would assert().
 */

static ngx_int_t
ngx_http_llm_redis_event_admit(const redisReadTask *task, size_t size)
{
    ngx_http_llm_redis_event_t  *ev;

    ev = task->privdata;

    if (task->parent == NULL) {
        ev->reply_size = 0;

        if (ev->ac->replies.head == NULL && task->type != REDIS_REPLY_ERROR) {
            ev->why = "a reply without a command";
            return NGX_ERROR;
        }
    }

    if (size > ev->max_reply - ev->reply_size) {
        ev->why = "a reply is larger than allowed";
        return NGX_ERROR;
    }

    ev->reply_size += size;

    return NGX_OK;
}


static void *
ngx_http_llm_redis_event_create_string(const redisReadTask *task, char *str,
    size_t len)
{
    if (ngx_http_llm_redis_event_admit(task, len) != NGX_OK) {
        return NULL;
    }

    return ngx_http_llm_redis_event_default.createString(task, str, len);
}


static void *
ngx_http_llm_redis_event_create_array(const redisReadTask *task,
    ngx_http_llm_redis_nelts_t nelts)
{
    size_t  size;

    /* before there are any elements: the number alone allocates */
    size = (size_t) nelts * NGX_HTTP_LLM_REDIS_ELEMENT;

    if (ngx_http_llm_redis_event_admit(task, size) != NGX_OK) {
        return NULL;
    }

    return ngx_http_llm_redis_event_default.createArray(task, nelts);
}


static void *
ngx_http_llm_redis_event_create_integer(const redisReadTask *task,
    long long value)
{
    if (ngx_http_llm_redis_event_admit(task, 0) != NGX_OK) {
        return NULL;
    }

    return ngx_http_llm_redis_event_default.createInteger(task, value);
}


static void *
ngx_http_llm_redis_event_create_nil(const redisReadTask *task)
{
    if (ngx_http_llm_redis_event_admit(task, 0) != NGX_OK) {
        return NULL;
    }

    return ngx_http_llm_redis_event_default.createNil(task);
}
