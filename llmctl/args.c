
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tables of commands and options, and reading the arguments by them.
 */


#include "llmctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>


/* in the order of opt_t */

const option_t  ctl_options[] = {
    { "url", "URL", "the admin listener (LLMCTL_URL)" },
    { "secret-file", "FILE", "the admin secret (LLMCTL_SECRET_FILE)" },
    { "timeout", "TIME", "of one request, 10s" },
    { "json", NULL, "the API's answers as they are" },
    { "help", NULL, "what there is" },
    { "version", NULL, "llmctl's version" },
    { "team", "TEAM", "its team; none: no team" },
    { "rpm", "N", "requests per minute; none: no such limit" },
    { "tpm", "N", "tokens per minute" },
    { "rpd", "N", "requests per day" },
    { "tpd", "N", "tokens per day" },
    { "concurrency", "N", "requests running at once" },
    { "budget", "USD", "money per period" },
    { "period", "day|month", "of the budget" },
    { "models", "A,B", "patterns of what may be used" },
    { "expires", "DATE", "from when on it is refused" },
    { "metadata", "JSON", "strings by name" },
    { "priority", "N", "-100 to 100, smaller goes first" },
    { "set", "MEMBER=JSON", "any member of the tenants file" },
    { "sha256", "HEX", "of a secret that is there already" },
    { "replace", NULL, "forget what it had before" },
    { "source", "admin|file", "only those made here, or of the file" },
    { "cut", NULL, "end its running streams" },
    { "grace", "TIME", "how long the old secret still works" },
    { "until", "DATE", "when the raise ends" },
    { "none", NULL, "take all raises back" },
    { "key", "KEY", "of this key" },
    { "model", "MODEL", "of this model" },
    { "provider", "PROVIDER", "of this provider" },
    { "minute", NULL, "by the minute" },
    { "hour", NULL, "by the hour" },
    { "day", NULL, "by the day" },
    { "month", NULL, "by the month" },
    { "from", "DATE", "first period" },
    { "to", "DATE", "end, excluded" },
    { "by", "team,key,model,provider", "one row for each" },
    { "sum", NULL, "one row for the whole time" },
    { "all", NULL, "all of them" },
    { "namespace", "NAME", "of llm_cache namespace=" },
    { "digest", "HEX", "one answer" },
    { "limit", "N", "of a page; only one is asked for" },
    { "after", "NEXT", "the page after this one" },
    { "interval", "TIME", "between two pictures, 2s" },
    { NULL, NULL, NULL }
};


#define B(o)  OPT_BIT(OPT_##o)

#define LIMITS   (B(RPM)|B(TPM)|B(RPD)|B(TPD)|B(CONCURRENCY)|B(BUDGET))
#define MEMBERS  (LIMITS|B(PERIOD)|B(MODELS)|B(METADATA)|B(PRIORITY)|B(SET))
#define PAGES    (B(LIMIT)|B(AFTER))

const uint64_t  ctl_common = B(URL)|B(SECRET_FILE)|B(TIMEOUT)|B(JSON)|B(HELP)
                             |B(VERSION);

const command_t  ctl_commands[] = {

    { "key", "create", key_create, NAME_NEEDED, "KEY",
      MEMBERS|B(TEAM)|B(EXPIRES)|B(SHA256),
      "makes a key; its secret is written to stdout, this once" },

    { "key", "list", key_list, NAME_NONE, NULL,
      B(TEAM)|B(SOURCE)|PAGES,
      "all keys, with the limits in force" },

    { "key", "show", key_show, NAME_NEEDED, "KEY", 0,
      "all that is known of a key" },

    { "key", "set", key_set, NAME_NEEDED, "KEY",
      MEMBERS|B(TEAM)|B(EXPIRES),
      "changes what is named; none takes a member away" },

    { "key", "disable", key_disable, NAME_NEEDED, "KEY", B(CUT),
      "refuses its requests" },

    { "key", "enable", key_enable, NAME_NEEDED, "KEY", 0,
      "takes its requests again" },

    { "key", "delete", key_delete, NAME_NEEDED, "KEY", B(CUT),
      "takes a key away for good" },

    { "key", "rotate", key_rotate, NAME_NEEDED, "KEY", B(GRACE),
      "makes a new secret" },

    { "key", "raise", key_raise, NAME_NEEDED, "KEY",
      LIMITS|B(UNTIL)|B(NONE),
      "raises limits until a date" },

    { "team", "list", team_list, NAME_NONE, NULL, PAGES,
      "all teams, with what they used and their budgets" },

    { "team", "show", team_show, NAME_NEEDED, "TEAM", 0,
      "all that is known of a team" },

    { "team", "set", team_set, NAME_NEEDED, "TEAM", MEMBERS|B(REPLACE),
      "makes a team, or changes what is named" },

    { "team", "delete", team_delete, NAME_NEEDED, "TEAM", 0,
      "takes a team without keys away" },

    { "usage", NULL, usage_run, NAME_NONE, NULL,
      B(TEAM)|B(KEY)|B(MODEL)|B(PROVIDER)|B(MINUTE)|B(HOUR)|B(DAY)|B(MONTH)
      |B(FROM)|B(TO)|B(BY)|B(SUM),
      "requests, tokens and money over time" },

    { "cache", "purge", cache_purge, NAME_NONE, NULL,
      B(ALL)|B(TEAM)|B(KEY)|B(MODEL)|B(NAMESPACE)|B(DIGEST),
      "answers that are not to be served any more" },

    { "breakers", "reset", breakers_reset, NAME_OPTIONAL, "TARGET", B(ALL),
      "has a target asked again at once" },

    { "breakers", NULL, breakers_run, NAME_NONE, NULL, PAGES,
      "targets: breakers, latencies, what providers say" },

    { "slots", NULL, slots_run, NAME_NONE, NULL, PAGES,
      "who has running or waiting requests now" },

    { "status", NULL, status_run, NAME_NONE, NULL, 0,
      "the gateway in a few lines" },

    { "tasks", "dead", tasks_dead, NAME_NONE, NULL, B(LIMIT),
      "tasks that were given up, the newest first" },

    { "tasks", "cancel", tasks_cancel, NAME_NEEDED, "TASK", 0,
      "ends a task, whosever it is" },

    { "tasks", "purge", tasks_purge, NAME_NEEDED, "TEAM", 0,
      "removes all tasks of a team, with their results" },

    { "tasks", NULL, tasks_run, NAME_NONE, NULL, 0,
      "the task queue: how many, whose" },

    { "top", NULL, top_run, NAME_NONE, NULL, B(INTERVAL),
      "a live view; q ends it" },

    { "completion", NULL, complete_run, NAME_NEEDED, "bash|zsh", 0,
      "a script for the shell" },

    { NULL, NULL, NULL, NAME_NONE, NULL, 0, NULL }
};


static int args_option(args_t *a, int argc, char **argv, int *i);
static int args_find(const char *name, size_t len);
static int args_command(args_t *a, const char **words, int n);
static int args_allowed(args_t *a);


int
args_read(args_t *a, int argc, char **argv)
{
    int          i, n, plain;
    const char  *words[4];

    memset(a, 0, sizeof(args_t));
    plain = 0;

    for (n = 0, i = 1; i < argc; i++) {

        if (!plain && strcmp(argv[i], "--") == 0) {
            plain = 1;
            continue;
        }

        if (!plain && argv[i][0] == '-' && argv[i][1] != '\0') {
            if (args_option(a, argc, argv, &i) != CTL_OK) {
                return CTL_USAGE;
            }

            continue;
        }

        if (n == 4) {
            return args_wrong(a, "too many arguments: %s", argv[i]);
        }

        words[n++] = argv[i];
    }

    /* "help key" is "key --help" */

    if (n > 0 && strcmp(words[0], "help") == 0) {
        a->values[OPT_HELP] = "";
        memmove(words, words + 1, (size_t) --n * sizeof(char *));
    }

    if (a->values[OPT_VERSION] != NULL
        || (n == 0 && a->values[OPT_HELP] != NULL))
    {
        return CTL_OK;
    }

    if (n == 0) {
        return args_wrong(a, "which command?");
    }

    return args_command(a, words, n);
}


static int
args_option(args_t *a, int argc, char **argv, int *i)
{
    int          o;
    size_t       len;
    const char  *arg, *name, *value;

    arg = argv[*i];

    if (strcmp(arg, "-h") == 0) {
        a->values[OPT_HELP] = "";
        return CTL_OK;
    }

    if (strcmp(arg, "-V") == 0) {
        a->values[OPT_VERSION] = "";
        return CTL_OK;
    }

    name = arg + 2;
    len = strncmp(arg, "--", 2) == 0 ? strcspn(name, "=") : 0;
    o = len != 0 ? args_find(name, len) : -1;

    if (o == -1) {
        return args_wrong(a, "no such option: %s", arg);
    }

    value = name[len] == '=' ? name + len + 1 : NULL;

    if (ctl_options[o].value == NULL) {
        if (value != NULL) {
            return args_wrong(a, "--%s takes no value", ctl_options[o].name);
        }

        value = "";

    } else if (value == NULL) {
        if (*i + 1 == argc) {
            return args_wrong(a, "--%s needs a value: %s",
                              ctl_options[o].name, ctl_options[o].value);
        }

        value = argv[++*i];
    }

    if (o == OPT_SET) {
        if (a->nsets == CTL_SETS) {
            return args_wrong(a, "--set more than %d times", CTL_SETS);
        }

        a->sets[a->nsets++] = value;

    } else if (a->values[o] != NULL && ctl_options[o].value != NULL) {
        return args_wrong(a, "--%s is given twice", ctl_options[o].name);
    }

    a->values[o] = value;

    return CTL_OK;
}


static int
args_find(const char *name, size_t len)
{
    int  o;

    for (o = 0; ctl_options[o].name != NULL; o++) {
        if (strlen(ctl_options[o].name) == len
            && strncmp(ctl_options[o].name, name, len) == 0)
        {
            return o;
        }
    }

    return -1;
}


static int
args_command(args_t *a, const char **words, int n)
{
    int               used, known;
    const command_t  *c;

    known = 0;

    for (c = ctl_commands; c->group != NULL; c++) {

        if (strcmp(c->group, words[0]) != 0) {
            continue;
        }

        known = 1;

        if (c->verb == NULL || (n > 1 && strcmp(c->verb, words[1]) == 0)) {
            break;
        }
    }

    if (c->group == NULL) {

        if (known && n == 1 && a->values[OPT_HELP] != NULL) {
            return CTL_OK;
        }

        if (known && n == 1) {
            return args_wrong(a, "%s: which command?", words[0]);
        }

        return args_wrong(a, "no such command: %s%s%s", words[0],
                          known ? " " : "", known ? words[1] : "");
    }

    a->command = c;

    if (a->values[OPT_HELP] != NULL) {
        return CTL_OK;
    }

    used = c->verb != NULL ? 2 : 1;

    if (n > used && c->name != NAME_NONE) {
        a->name = words[used++];
    }

    if (n > used) {
        return args_wrong(a, "too many arguments: %s", words[used]);
    }

    if (c->name == NAME_NEEDED && a->name == NULL) {
        return args_wrong(a, "%s is missing", c->what);
    }

    /* as parts of a path these would be something else */

    if (a->name != NULL && (a->name[0] == '\0' || strcmp(a->name, ".") == 0
                            || strcmp(a->name, "..") == 0))
    {
        return args_wrong(a, "\"%s\" is no name", a->name);
    }

    return args_allowed(a);
}


static int
args_allowed(args_t *a)
{
    int  o;

    for (o = 0; o < OPTIONS; o++) {
        if (a->values[o] != NULL
            && ((a->command->options | ctl_common) & OPT_BIT(o)) == 0)
        {
            return args_wrong(a, "--%s is no option of this command",
                              ctl_options[o].name);
        }
    }

    return CTL_OK;
}


int
args_wrong(const args_t *a, const char *format, ...)
{
    char     buf[512];
    text_t   out;
    va_list  args;

    va_start(args, format);
    vsnprintf(buf, sizeof(buf), format, args);
    va_end(args);

    memset(&out, 0, sizeof(out));
    text_show(&out, buf, 0);

    fprintf(stderr, "llmctl: %s\n", out.data != NULL ? out.data : "");
    text_free(&out);

    fprintf(stderr, "llmctl: see \"llmctl%s%s%s%s --help\"\n",
            a->command != NULL ? " " : "",
            a->command != NULL ? a->command->group : "",
            a->command != NULL && a->command->verb != NULL ? " " : "",
            a->command != NULL && a->command->verb != NULL
            ? a->command->verb : "");

    return CTL_USAGE;
}


void
query_add(text_t *path, const char *name, const char *value)
{
    if (value == NULL) {
        return;
    }

    text_printf(path, "%c%s=", strchr(path->data, '?') != NULL ? '&' : '?',
                name);
    text_escape(path, value);
}


int
query_time(const args_t *a, text_t *path, opt_t option)
{
    text_t  iso;

    if (a->values[option] == NULL) {
        return CTL_OK;
    }

    memset(&iso, 0, sizeof(iso));

    if (value_read_time(a->values[option], time(NULL), &iso) != 0) {
        return args_wrong(a, "--%s: no date: %s", ctl_options[option].name,
                          a->values[option]);
    }

    query_add(path, ctl_options[option].name, iso.data);
    text_free(&iso);

    return CTL_OK;
}
