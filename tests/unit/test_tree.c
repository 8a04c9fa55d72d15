
/*
 * Copyright (C) the ngx-llm authors
 *
 * Trees of jansson's when there is no memory.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/llm_tree.h"
#include "json_starve.h"


#define TEXT                                                                  \
    "{\"completion_window\":\"24h\",\"endpoint\":\"/v1/chat/completions\","   \
    "\"metadata\":{\"a name that is long\":\"and a text that is longer\"}}"


/* whichever allocation fails, a tree is whole or there is none */

static void
test_whole(void **state)
{
    json_t        *whole, *tree;
    json_error_t   error;

    (void) state;

    whole = json_loads(TEXT, 0, NULL);
    assert_non_null(whole);

    json_set_alloc_funcs(counting_malloc, counting_free);

    for (failing = 1; failing < 1000; failing++) {
        allocations = 0;
        living = 0;

        llm_tree_watch();
        tree = llm_tree_load(TEXT, sizeof(TEXT) - 1, 0, &error);

        if (allocations < failing) {
            assert_false(llm_tree_no_memory());
            assert_true(json_equal(tree, whole));
            json_decref(tree);
            break;
        }

        assert_true(llm_tree_no_memory());
        assert_null(tree);
        assert_string_equal(error.text, "out of memory");
        assert_int_equal(living, 0);
    }

    assert_in_range(failing, 20, 999);

    json_set_alloc_funcs(malloc, free);
    json_decref(whole);
}


/* what was missing before is not forgotten by another load */

static void
test_watch(void **state)
{
    json_t  *tree;

    (void) state;

    json_set_alloc_funcs(counting_malloc, counting_free);

    allocations = 0;
    failing = 1;
    llm_tree_watch();
    assert_null(json_object());
    assert_true(llm_tree_no_memory());

    tree = llm_tree_load("{}", 2, 0, NULL);
    assert_non_null(tree);
    assert_true(llm_tree_no_memory());
    json_decref(tree);

    llm_tree_watch();
    assert_false(llm_tree_no_memory());

    json_set_alloc_funcs(malloc, free);
}


static void
test_wrong(void **state)
{
    json_error_t  error;

    (void) state;

    llm_tree_watch();
    assert_null(llm_tree_load("{\"a\":", 5, 0, &error));
    assert_false(llm_tree_no_memory());
    assert_string_not_equal(error.text, "out of memory");
    assert_null(llm_tree_load("{\"a\":1,\"a\":2}", 13, JSON_REJECT_DUPLICATES,
                              NULL));
    assert_false(llm_tree_no_memory());
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
