
/*
 * Copyright (C) the ngx-llm authors
 *
 * The help and the completion scripts, both from the tables of args.c.
 */


#include "llmctl.h"

#include <stdio.h>
#include <string.h>


static void help_commands(const char *group);
static void help_options(uint64_t options);
static void complete_bash(void);
static void complete_zsh(void);
static void complete_words(uint64_t options);
static int complete_is_first(const command_t *c);


void
args_help(const args_t *a)
{
    const command_t  *c;

    c = a->command;

    if (c == NULL) {
        printf("Usage: llmctl COMMAND [NAME] [OPTIONS]\n\nCommands:\n");
        help_commands(NULL);
        printf("\nOptions of every command:\n");
        help_options(ctl_common);
        printf("\nThe secret is taken from --secret-file, LLMCTL_SECRET,\n"
               "LLMCTL_SECRET_FILE, or ./run/admin-secret for a gateway of\n"
               "this machine. Exit codes: 0 done, 1 refused, 2 wrong usage,\n"
               "3 no connection, 4 no or a wrong secret.\n");
        return;
    }

    printf("Usage: llmctl %s%s%s%s%s%s [OPTIONS]\n\n%s\n",
           c->group, c->verb != NULL ? " " : "",
           c->verb != NULL ? c->verb : "",
           c->name == NAME_NONE ? "" : c->name == NAME_NEEDED ? " " : " [",
           c->name == NAME_NONE ? "" : c->what,
           c->name == NAME_OPTIONAL ? "]" : "", c->help);

    if (c->options != 0) {
        printf("\nOptions:\n");
        help_options(c->options);
    }
}


static void
help_commands(const char *group)
{
    char              left[64];
    const command_t  *c;

    for (c = ctl_commands; c->group != NULL; c++) {

        if (group != NULL && strcmp(group, c->group) != 0) {
            continue;
        }

        snprintf(left, sizeof(left), "%s %s%s%s", c->group,
                 c->verb != NULL ? c->verb : "",
                 c->verb != NULL && c->what != NULL ? " " : "",
                 c->what != NULL ? c->what : "");
        printf("  %-24s %s\n", left, c->help);
    }
}


static void
help_options(uint64_t options)
{
    int   o;
    char  left[64];

    for (o = 0; o < OPTIONS; o++) {

        if ((options & OPT_BIT(o)) == 0) {
            continue;
        }

        snprintf(left, sizeof(left), "--%s%s%s", ctl_options[o].name,
                 ctl_options[o].value != NULL ? " " : "",
                 ctl_options[o].value != NULL ? ctl_options[o].value : "");
        printf("  %-28s %s\n", left, ctl_options[o].help);
    }
}


int
complete_run(args_t *a)
{
    if (strcmp(a->name, "bash") == 0) {
        complete_bash();

    } else if (strcmp(a->name, "zsh") == 0) {
        complete_zsh();

    } else {
        return args_wrong(a, "no completion for \"%s\": bash or zsh",
                          a->name);
    }

    return CTL_OK;
}


/* the words of the first place, then those that follow each of them */

static void
complete_bash(void)
{
    const command_t  *c, *d;

    printf("# completion of llmctl for bash:"
           " source <(llmctl completion bash)\n\n"
           "_llmctl() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
           "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n\n"
           "    COMPREPLY=()\n\n"
           "    case $prev in\n"
           "        --secret-file)\n"
           "            COMPREPLY=($(compgen -f -- \"$cur\"))\n"
           "            return ;;\n"
           "        --period)\n"
           "            COMPREPLY=($(compgen -W 'day month' -- \"$cur\"))\n"
           "            return ;;\n"
           "    esac\n\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        words='");

    for (c = ctl_commands; c->group != NULL; c++) {
        if (complete_is_first(c)) {
            printf("%s ", c->group);
        }
    }

    printf("help --help --version'\n    else\n"
           "        case ${COMP_WORDS[1]}/${COMP_WORDS[2]} in\n");

    for (c = ctl_commands; c->group != NULL; c++) {
        if (c->verb != NULL) {
            printf("            %s/%s) words='", c->group, c->verb);
            complete_words(c->options);
            printf("' ;;\n");
        }
    }

    for (c = ctl_commands; c->group != NULL; c++) {
        if (!complete_is_first(c)) {
            continue;
        }

        printf("            %s/*) words='", c->group);

        for (d = c; d->group != NULL && strcmp(d->group, c->group) == 0; d++) {
            if (d->verb != NULL) {
                printf("%s ", d->verb);

            } else {
                complete_words(d->options);
            }
        }

        printf("%s' ;;\n", strcmp(c->group, "completion") == 0
                           ? " bash zsh" : "");
    }

    printf("        esac\n    fi\n\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "}\n\n"
           "complete -F _llmctl llmctl\n");
}


static void
complete_zsh(void)
{
    const command_t  *c;

    printf("#compdef llmctl\n"
           "# completion of llmctl for zsh: source <(llmctl completion zsh)\n"
           "\n_llmctl() {\n    local -a words_\n\n"
           "    if (( CURRENT == 2 )); then\n        words_=(");

    for (c = ctl_commands; c->group != NULL; c++) {
        if (complete_is_first(c)) {
            printf("%s ", c->group);
        }
    }

    printf("help)\n    else\n        case ${words[2]}/${words[3]} in\n");

    for (c = ctl_commands; c->group != NULL; c++) {
        if (c->verb != NULL) {
            printf("            %s/%s) words_=(", c->group, c->verb);
            complete_words(c->options);
            printf(") ;;\n");
        }
    }

    for (c = ctl_commands; c->group != NULL; c++) {
        if (c->verb == NULL) {
            printf("            %s/*) words_=(", c->group);
            complete_words(c->options);
            printf("%s) ;;\n",
                   strcmp(c->group, "completion") == 0 ? " bash zsh"
                   : strcmp(c->group, "breakers") == 0 ? " reset"
                   : strcmp(c->group, "tasks") == 0 ? " dead cancel purge"
                   : "");
        }
    }

    printf("            key/*) words_=(create list show set disable enable"
           " delete rotate raise) ;;\n"
           "            team/*) words_=(list show set delete) ;;\n"
           "            cache/*) words_=(purge) ;;\n"
           "        esac\n    fi\n\n"
           "    compadd -- $words_\n}\n\n"
           "if [ \"$funcstack[1]\" = _llmctl ]; then\n    _llmctl \"$@\"\n"
           "else\n    compdef _llmctl llmctl\nfi\n");
}


static void
complete_words(uint64_t options)
{
    int          o;
    const char  *gap;

    options |= ctl_common & ~OPT_BIT(OPT_VERSION);

    for (gap = "", o = 0; o < OPTIONS; o++) {
        if ((options & OPT_BIT(o)) != 0) {
            printf("%s--%s", gap, ctl_options[o].name);
            gap = " ";
        }
    }
}


static int
complete_is_first(const command_t *c)
{
    return c == ctl_commands || strcmp(c[-1].group, c->group) != 0;
}
