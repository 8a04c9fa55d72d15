
/*
 * Copyright (C) the ngx-llm authors
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_siphash.h"


/* the inputs 00, 00 01, ... under the key 00 01 ... 0f, as the paper has it */

static void
test_vectors(void **state)
{
    unsigned        i;
    uint64_t        key[2], out[2];
    unsigned char   in[64], k[16];

    static const struct {
        size_t      len;
        uint64_t    out[2];
    } vectors[] = {
        { 0, { 0xe6a825ba047f81a3, 0x930255c71472f66d } },
        { 1, { 0x44af996bd8c187da, 0x45fc229b11597634 } },
        { 15, { 0x11a8b03399e99354, 0xd9c3cf970fec087e } }
    };

    (void) state;

    for (i = 0; i < sizeof(in); i++) {
        in[i] = (unsigned char) i;
    }

    memcpy(k, in, sizeof(k));
    memcpy(key, k, sizeof(k));

    for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        llm_siphash(key, in, vectors[i].len, out);
        assert_int_equal(out[0], vectors[i].out[0]);
        assert_int_equal(out[1], vectors[i].out[1]);
    }
}


/* every byte, its place and the length count */

static void
test_all_count(void **state)
{
    size_t         len, i;
    uint64_t       key[2] = { 1, 2 }, a[2], b[2];
    unsigned char  in[33];

    (void) state;

    memset(in, 'x', sizeof(in));

    for (len = 1; len <= 32; len++) {
        llm_siphash(key, in, len, a);

        llm_siphash(key, in, len - 1, b);
        assert_true(a[0] != b[0] && a[1] != b[1]);

        for (i = 0; i < len; i++) {
            in[i] ^= 1;
            llm_siphash(key, in, len, b);
            assert_true(a[0] != b[0] && a[1] != b[1]);
            in[i] ^= 1;
        }

        key[0]++;
        llm_siphash(key, in, len, b);
        assert_true(a[0] != b[0] && a[1] != b[1]);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_all_count)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
