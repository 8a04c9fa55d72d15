
/*
 * Copyright (C) the ngx-llm authors
 *
 * A Redis of the test's own on a unix socket, the script in it, and batches
 * written by hand.
 */


#ifndef _QUOTA_REDIS_H_INCLUDED_
#define _QUOTA_REDIS_H_INCLUDED_


#include <hiredis/hiredis.h>

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/wait.h>


#define QUOTA_SCRIPT  "ngx_module/policy/quota.lua"
#define QUOTA_ARGS    256
#define QUOTA_NUMBERS 4096


static char   quota_dir[64];
static char   quota_path[96];
static char   quota_sha[64];
static pid_t  quota_pid;


static inline redisContext *
quota_connect(void)
{
    unsigned       i;
    redisReply    *r;
    redisContext  *c;

    for (i = 0; i < 500; i++) {
        c = redisConnectUnix(quota_path);

        if (c != NULL && c->err == 0) {
            r = redisCommand(c, "PING");

            if (r != NULL && r->type == REDIS_REPLY_STATUS) {
                freeReplyObject(r);
                return c;
            }

            freeReplyObject(r);
        }

        redisFree(c);
        usleep(10000);
    }

    return NULL;
}


static inline char *
quota_script(void)
{
    long   size;
    FILE  *f;
    char  *text;

    f = fopen(QUOTA_SCRIPT, "r");

    if (f == NULL) {
        fprintf(stderr, "run it in the root of the tree: no %s\n",
                QUOTA_SCRIPT);
        return NULL;
    }

    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);

    text = calloc(1, (size_t) size + 1);

    if (fread(text, 1, (size_t) size, f) != (size_t) size) {
        free(text);
        text = NULL;
    }

    fclose(f);

    return text;
}


static inline int
quota_load(redisContext *c)
{
    char        *text;
    redisReply  *r;

    text = quota_script();

    if (text == NULL) {
        return 1;
    }

    r = redisCommand(c, "SCRIPT LOAD %s", text);
    free(text);

    if (r == NULL || r->type != REDIS_REPLY_STRING) {
        fprintf(stderr, "%s\n", r != NULL ? r->str : c->errstr);
        return 1;
    }

    snprintf(quota_sha, sizeof(quota_sha), "%s", r->str);
    freeReplyObject(r);

    return 0;
}


/* it ends with this process */

static inline redisContext *
quota_start(void)
{
    redisContext  *c;

    snprintf(quota_dir, sizeof(quota_dir), "/tmp/llm-quota-XXXXXX");

    if (mkdtemp(quota_dir) == NULL) {
        return NULL;
    }

    snprintf(quota_path, sizeof(quota_path), "%s/redis.sock", quota_dir);

    quota_pid = fork();

    if (quota_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);

        if (freopen("/dev/null", "w", stdout) == NULL) {
            _exit(1);
        }

        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket",
               quota_path, "--save", "", "--dir", quota_dir, (char *) NULL);
        _exit(1);
    }

    c = quota_connect();

    if (c != NULL && quota_load(c) != 0) {
        redisFree(c);
        c = NULL;
    }

    return c;
}


static inline void
quota_stop(void)
{
    (void) kill(quota_pid, SIGKILL);
    (void) waitpid(quota_pid, NULL, 0);
    (void) unlink(quota_path);
    (void) rmdir(quota_dir);
}


/* an integer or the length of a string or list; -1: nil or an error */

static inline int64_t
quota_command(redisContext *c, const char *format, ...)
{
    int64_t      n;
    va_list      args;
    redisReply  *r;

    va_start(args, format);
    r = redisvCommand(c, format, args);
    va_end(args);

    n = r == NULL || r->type == REDIS_REPLY_NIL
        || r->type == REDIS_REPLY_ERROR ? -1
        : r->type == REDIS_REPLY_INTEGER ? r->integer
        : r->type == REDIS_REPLY_ARRAY ? (int64_t) r->elements
        : (int64_t) r->len;

    if (r != NULL && r->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "%s\n", r->str);
    }

    freeReplyObject(r);

    return n;
}


#endif /* _QUOTA_REDIS_H_INCLUDED_ */
