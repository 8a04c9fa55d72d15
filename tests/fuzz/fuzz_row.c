
/*
 * Copyright (C) the ngx-llm authors
 *
 * Rows of teams and keys as a store or a client of the admin API has them,
 * the first byte says which and how: one that was read says the same when it
 * is written and read again, and a patch of nothing changes nothing.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_policy.h"
#include "fuzz_main.h"
#include "fuzz_words.h"


#define HEX  "\"sha256\":\"00112233445566778899aabbccddeeff"                  \
             "00112233445566778899aabbccddeeff\","

#define MUST(c)  if (!(c)) abort()


static unsigned char  room[3][1 << 20];
static char           text[2][1 << 20];


static int
parse(llm_policy_row_t *row, const char *p, size_t len, unsigned how,
    unsigned which, char *err, size_t errlen)
{
    size_t       path;
    llm_arena_t  arena;

    memset(&arena, 0, sizeof(llm_arena_t));
    arena.pos = room[which];
    arena.end = room[which] + sizeof(room[which]);

    return llm_policy_row_parse(row, p, len, how, NULL, &arena, err, errlen,
                                &path);
}


static size_t
write_row(const llm_policy_row_t *row, unsigned how, char *buf)
{
    size_t  n;

    n = llm_policy_row_write(row, how, buf + 1, sizeof(text[0]) - 2);
    MUST(n <= sizeof(text[0]) - 2);

    buf[0] = '{';
    buf[n + 1] = '}';

    return n + 2;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char               err[200], *body;
    size_t             len, n, m;
    unsigned           i, how;
    llm_row_e          kind;
    unsigned char     *p;
    llm_policy_row_t   row, again;

    static const char *const  words[FUZZ_WORDS] = {
        HEX, "\"models\":[\"a*\"],",
        "\"raises\":[{\"limit\":\"concurrency\",\"value\":1,\"until\":2}],",
        "\"budget\":{\"usd\":1.5,\"period\":\"day\"},",
        "\"metadata\":{\"a\":", "\"requests_per_minute\":",
        "\"expires\":\"2027-01-01T00:00:00Z\",", "\"queue\":{\"size\":1},"
    };

    if (size < 1) {
        return 0;
    }

    kind = data[0] & 1 ? LLM_ROW_KEY : LLM_ROW_TEAM;
    how = data[0] & 2 ? LLM_POLICY_RECORD : 0;

    p = fuzz_words(words, data + 1, size - 1, &len);
    body = (char *) p;

    memset(err, 'x', sizeof(err));
    err[0] = '\0';

    llm_policy_row_clear(&row, kind);

    if (parse(&row, body, len, how, 0, err, sizeof(err)) != LLM_OK) {
        MUST(err[0] != '\0' && memchr(err, '\0', sizeof(err)) != NULL);

        for (i = 0; err[i] != '\0'; i++) {
            MUST(err[i] != '\n' && err[i] != '\r' && err[i] != '\033');
        }

        free(p);
        return 0;
    }

    free(p);

    MUST(row.terms.requests_per_minute != 0 && row.terms.concurrency != 0);
    MUST(row.expires >= 0 && row.metadata.len <= LLM_POLICY_METADATA);

    n = write_row(&row, LLM_POLICY_RECORD, text[0]);

    llm_policy_row_clear(&again, kind);
    MUST(parse(&again, text[0], n, LLM_POLICY_RECORD, 1, err, sizeof(err))
         == LLM_OK);
    m = write_row(&again, LLM_POLICY_RECORD, text[1]);
    MUST(m == n && memcmp(text[0], text[1], n) == 0);

    MUST(parse(&again, "{}", 2, LLM_POLICY_PATCH, 2, err, sizeof(err))
         == LLM_OK);
    m = write_row(&again, LLM_POLICY_RECORD, text[1]);
    MUST(m == n && memcmp(text[0], text[1], n) == 0);

    return 0;
}
