
/*
 * Copyright (C) the ngx-llm authors
 *
 * Errors of a tenants file, with line and column.  Syntax errors are told in
 * the words of the library that makes the trees, by having it read the text
 * around them.
 */


#include "core/llm_policy_file_private.h"


static int llm_file_error_at(const llm_policy_place_t *place,
    const json_error_t *je, size_t before, char *err, size_t errlen);


/* the tree of a value between these places, neither before f->clean */

json_t *
llm_file_load(llm_policy_file_t *f, size_t begin, size_t end, char *err,
    size_t errlen)
{
    json_t              *value;
    json_error_t         je;
    llm_policy_place_t   place;

    value = llm_policy_load_value(f->text + begin, end - begin, &je);

    if (value == NULL) {
        place = f->clean;

        if (place.pos > begin) {
            memset(&place, 0, sizeof(llm_policy_place_t));
            place.line = 1;
        }

        llm_file_move(f, &place, begin);

        (void) llm_file_error_at(&place, &je, 0, err, errlen);
    }

    return value;
}


/* what the library says of the text from f->clean on */

int
llm_file_syntax(llm_policy_file_t *f, char *err, size_t errlen)
{
    char                       *text;
    size_t                      at, end, n, len;
    json_t                     *root;
    const char                 *before;
    json_error_t                je;
    llm_policy_place_t          place;
    static const char *const    prefix[] = {
        "{}", "{\"\\u0001\":[]", "{\"\\u0001\":{\"\\u0001\":[]",
        "{}", "{", "{\"\\u0001\":{"
    };

    at = (size_t) (f->js.pos - (const unsigned char *) f->text);
    end = f->len - at > LLM_FILE_BEHIND ? at + LLM_FILE_BEHIND : f->len;

    before = prefix[f->depth + (f->first ? 3 : 0)];
    n = strlen(before);
    len = end - f->clean.pos;
    place = f->clean;

    if (!f->begun) {
        root = llm_policy_load(f->text, end, err, errlen);

        if (root == NULL) {
            return LLM_ERROR;
        }

        json_decref(root);

    } else if (len <= LLM_FILE_AROUND) {
        text = (char *) f->scratch;

        memcpy(text, before, n);
        memcpy(text + n, f->text + f->clean.pos, len);

        root = llm_policy_load_value(text, n + len, &je);

        if (root == NULL
            && (end == f->len || (size_t) je.position < n + len))
        {
            return llm_file_error_at(&place, &je, n, err, errlen);
        }

        json_decref(root);
    }

    llm_file_move(f, &place, at);

    return llm_file_error(&place, f->js.error, err, errlen);
}


size_t
llm_file_end(const llm_policy_file_t *f)
{
    return (size_t) (f->js.end - (const unsigned char *) f->text);
}


void
llm_file_move(const llm_policy_file_t *f, llm_policy_place_t *place,
    size_t pos)
{
    const char  *p, *end, *line;

    end = f->text + pos;

    for (p = f->text + place->pos; p < end; p = line + 1) {
        line = memchr(p, '\n', (size_t) (end - p));

        if (line == NULL) {
            break;
        }

        place->line++;
        place->column = 0;
    }

    for ( /* void */ ; p < end; p++) {

        /* what goes on with a character is none */

        place->column += (*p & 0xc0) != 0x80;
    }

    place->pos = pos;
}


int
llm_file_error(const llm_policy_place_t *place, const char *what, char *err,
    size_t errlen)
{
    snprintf(err, errlen, "line %zu, column %zu: %s", place->line,
             place->column, what);

    return LLM_ERROR;
}


/* the library has read "before" characters that were put before the place */

static int
llm_file_error_at(const llm_policy_place_t *place, const json_error_t *je,
    size_t before, char *err, size_t errlen)
{
    llm_policy_place_t  at;

    at = *place;
    at.line += (size_t) (je->line > 0 ? je->line : 1) - 1;

    if (je->line > 1) {
        at.column = (size_t) je->column;

    } else {
        at.column += (size_t) (je->column > 0 ? je->column : 0);
        at.column -= at.column < before ? at.column : before;
    }

    return llm_file_error(&at, je->text[0] != '\0' ? je->text
                                                    : "out of memory",
                          err, errlen);
}
