
/*
 * Copyright (C) the ngx-llm authors
 *
 * Purging the cache.
 */


#include "llmctl.h"

#include <stdio.h>
#include <string.h>


int
cache_purge(args_t *a)
{
    int       i, n, rc;
    json_t   *body;
    answer_t  answer;

    static const opt_t  what[] = {
        OPT_ALL, OPT_TEAM, OPT_KEY, OPT_MODEL, OPT_NAMESPACE, OPT_DIGEST
    };

    body = json_object();

    for (n = 0, i = 0; i < 6; i++) {
        if (a->values[what[i]] == NULL) {
            continue;
        }

        n++;

        if (json_object_set_new(body, ctl_options[what[i]].name,
                                what[i] == OPT_ALL ? json_true()
                                : json_string(a->values[what[i]])) != 0)
        {
            json_decref(body);
            return args_wrong(a, "--%s is no UTF-8",
                              ctl_options[what[i]].name);
        }
    }

    if (n != 1) {
        json_decref(body);
        return args_wrong(a, "one of --all, --team, --key, --model,"
                          " --namespace and --digest");
    }

    rc = http_call(a, "POST", "/cache/purge", body, &answer);

    if (rc == CTL_OK && a->values[OPT_JSON] == NULL) {
        fprintf(stderr, "purged, %s\n", member_flag(answer.json, "fleet")
                                        ? "on all gateways"
                                        : "on this gateway");
    }

    http_free(&answer);
    json_decref(body);

    return rc;
}
