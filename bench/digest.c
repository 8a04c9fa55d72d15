
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the name of a request's answer costs: the pass over its body, the pass
 * that also notes what the digest needs, the pass and the digest, and SHA-256
 * of the same bytes alone.  One line of JSON: for each round the nanoseconds
 * of CPU that one body took.
 *
 *     digest ROUNDS
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "core/llm_request.h"


#define BODY     (200 * 1024)
#define IMAGE    (60 * 1024)
#define SCRATCH  (1024 * 1024)
#define SLICE    20000000                   /* ns of one measurement */
#define CASES    4


typedef void (*run_pt)(unsigned char *body, size_t len);

typedef struct {
    const char           *name;
    run_pt                run;
} case_t;


static void scan(unsigned char *body, size_t len);
static void noted(unsigned char *body, size_t len);
static void named(unsigned char *body, size_t len);
static void sha256(unsigned char *body, size_t len);


static case_t  cases[CASES] = {
    { "scan",   scan },
    { "noted",  noted },
    { "digest", named },
    { "sha256", sha256 }
};

static unsigned char   scratch[SCRATCH];
static unsigned char   sum[EVP_MAX_MD_SIZE];
static EVP_MD         *md;
static EVP_MD_CTX     *ctx;


static void
fail(const char *what)
{
    fprintf(stderr, "digest: %s\n", what);
    exit(1);
}


static uint64_t
cpu(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


/* a question about three images, and what led to it */

static size_t
compose(unsigned char *body)
{
    char      *p, *end;
    size_t     i;
    unsigned   seed, n;

    static const char  base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz0123456789+/";

    p = (char *) body;
    seed = 1;

    p += sprintf(p, "{\"model\":\"gpt-4o\",\"temperature\":0,\"messages\":["
                    "{\"role\":\"system\",\"content\":\"Be brief.\"}");

    end = (char *) body + BODY - 3 * IMAGE - 1024;

    while (p < end) {
        p += sprintf(p, ",{\"role\":\"user\",\"content\":\"And then? She "
                        "said: \\\"caf\u00e9, %u times\\\".\\n\\nWhat does "
                        "it mean, and why is it told twice?\"},{\"role\":"
                        "\"assistant\",\"content\":\"It is an old story "
                        "that is told where people wait.\"}", ++seed);
    }

    p += sprintf(p, ",{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                    "\"text\":\"What differs?\"}");

    for (n = 0; n < 3; n++) {
        p += sprintf(p, ",{\"type\":\"image_url\",\"image_url\":{\"url\":"
                        "\"data:image/png;base64,");

        for (i = 0; i < IMAGE; i++) {
            seed = seed * 1103515245 + 12345;
            *p++ = base64[(seed >> 16) % 64];
        }

        p += sprintf(p, "\"}}");
    }

    p += sprintf(p, "]}]}");

    return (size_t) (p - (char *) body);
}


static void
parse(llm_request_t *rq, llm_arena_t *arena, unsigned char *body, size_t len,
    int digest)
{
    llm_request_error_t  err;

    memset(arena, 0, sizeof(llm_arena_t));

    arena->pos = scratch;
    arena->end = scratch + SCRATCH;

    if (llm_request_parse(rq, LLM_CHAT, body, len, digest, arena, &err)
        != LLM_OK)
    {
        fail(err.text);
    }
}


static void
scan(unsigned char *body, size_t len)
{
    llm_arena_t    arena;
    llm_request_t  rq;

    parse(&rq, &arena, body, len, 0);
}


static void
noted(unsigned char *body, size_t len)
{
    llm_arena_t    arena;
    llm_request_t  rq;

    parse(&rq, &arena, body, len, 1);
}


static void
update(void *data, const unsigned char *p, size_t len)
{
    (void) data;

    if (EVP_DigestUpdate(ctx, p, len) != 1) {
        fail("EVP_DigestUpdate()");
    }
}


static void
named(unsigned char *body, size_t len)
{
    llm_arena_t    arena;
    llm_request_t  rq;

    parse(&rq, &arena, body, len, 1);

    if (EVP_DigestInit_ex(ctx, md, NULL) != 1
        || llm_request_digest(&rq, &arena, update, NULL) != LLM_OK
        || EVP_DigestFinal_ex(ctx, sum, NULL) != 1)
    {
        fail("no digest");
    }
}


static void
sha256(unsigned char *body, size_t len)
{
    if (EVP_DigestInit_ex(ctx, md, NULL) != 1
        || EVP_DigestUpdate(ctx, body, len) != 1
        || EVP_DigestFinal_ex(ctx, sum, NULL) != 1)
    {
        fail("no SHA-256");
    }
}


/* a clock of the system costs less than a thousandth of a body */

static double
measure(run_pt run, unsigned char *body, size_t len)
{
    uint64_t  start, now;
    unsigned  n;

    n = 0;
    start = cpu();

    do {
        run(body, len);
        n++;
        now = cpu();
    } while (now - start < SLICE);

    return (double) (now - start) / n;
}


int
main(int argc, char **argv)
{
    int             i, k, rounds;
    size_t          len;
    unsigned char  *body;

    rounds = argc == 2 ? atoi(argv[1]) : 0;

    if (rounds < 1) {
        fail("usage: digest ROUNDS");
    }

    body = malloc(BODY + 4096);
    md = EVP_MD_fetch(NULL, "SHA256", NULL);
    ctx = EVP_MD_CTX_new();

    if (body == NULL || md == NULL || ctx == NULL) {
        fail("no memory");
    }

    len = compose(body);

    for (k = 0; k < CASES; k++) {
        (void) measure(cases[k].run, body, len);
    }

    printf("{\"bytes\":%zu,\"rounds\":[", len);

    for (i = 0; i < rounds; i++) {
        printf("%s{", i ? "," : "");

        for (k = 0; k < CASES; k++) {
            printf("%s\"%s\":%.1f", k ? "," : "", cases[k].name,
                   measure(cases[k].run, body, len));
        }

        printf("}");
    }

    printf("]}\n");

    EVP_MD_CTX_free(ctx);
    EVP_MD_free(md);
    free(body);

    return 0;
}
