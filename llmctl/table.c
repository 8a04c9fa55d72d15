
/*
 * Copyright (C) the ngx-llm authors
 *
 * Aligned columns, and the members of an object one per line.
 */


#include "llmctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define TABLE_NAME  24


static const char *const  style_codes[] = {
    "", "\033[1m", "\033[2m", "\033[32m", "\033[33m", "\033[31m"
};


static int table_fit(const table_t *t, int *widths, int width);
static int table_compare(const void *a, const void *b);
static void table_pad(text_t *out, int n);
static void show_value(text_t *out, json_t *value);


int
style_on(void)
{
    const char  *s;
    static int   on = -1;

    if (on == -1) {
        s = getenv("NO_COLOR");
        on = isatty(STDOUT_FILENO) && (s == NULL || *s == '\0');

        s = getenv("TERM");
        on = on && s != NULL && strcmp(s, "dumb") != 0;
    }

    return on;
}


void
style_begin(text_t *out, style_t style)
{
    if (style != STYLE_NONE && style_on()) {
        text_add(out, style_codes[style]);
    }
}


void
style_end(text_t *out, style_t style)
{
    if (style != STYLE_NONE && style_on()) {
        text_add(out, "\033[0m");
    }
}


void
table_init(table_t *t, const char *const *titles)
{
    memset(t, 0, sizeof(table_t));

    while (t->columns < TABLE_COLUMNS && titles[t->columns] != NULL) {
        t->titles[t->columns] = titles[t->columns];
        t->columns++;
    }
}


cell_t *
table_cell(table_t *t)
{
    size_t   size;
    cell_t  *cells;

    if (t->ncells == t->size) {
        size = t->size * 2 + 64;
        cells = ctl_alloc(size * sizeof(cell_t));

        if (t->ncells != 0) {
            memcpy(cells, t->cells, t->ncells * sizeof(cell_t));
        }

        free(t->cells);
        t->cells = cells;
        t->size = size;
    }

    return &t->cells[t->ncells++];
}


void
table_text(table_t *t, const char *s)
{
    cell_t  *c;

    c = table_cell(t);
    c->width = text_show(&c->text, s != NULL ? s : "-", 0);
}


void
table_count(table_t *t, double n)
{
    cell_t  *c;

    c = table_cell(t);
    value_count(&c->text, n);
    table_done(c);
}


void
table_usd(table_t *t, double usd)
{
    cell_t  *c;

    c = table_cell(t);
    value_usd(&c->text, usd);
    table_done(c);
}


/* our own text has one column per byte */

void
table_done(cell_t *c)
{
    c->width = (int) c->text.len;
}


void
table_sort(table_t *t)
{
    if (t->ncells != 0) {
        qsort(t->cells, table_rows(t), (size_t) t->columns * sizeof(cell_t),
              table_compare);
    }
}


static int
table_compare(const void *a, const void *b)
{
    const cell_t  *one, *two;

    one = a;
    two = b;

    return strcmp(one->text.data != NULL ? one->text.data : "",
                  two->text.data != NULL ? two->text.data : "");
}


size_t
table_rows(const table_t *t)
{
    return t->ncells / (size_t) t->columns;
}


void
table_write(const table_t *t, text_t *out, int width, size_t max)
{
    int          i, right, pad, columns, widths[TABLE_COLUMNS];
    size_t       row, rows;
    text_t       cut;
    const char  *title;
    cell_t      *c;

    memset(widths, 0, sizeof(widths));

    rows = table_rows(t);
    rows = max != 0 && rows > max ? max : rows;

    for (i = 0; i < t->columns; i++) {
        widths[i] = (int) strlen(t->titles[i]) - (t->titles[i][0] == '>');

        for (row = 0; row < rows; row++) {
            c = &t->cells[row * (size_t) t->columns + (size_t) i];
            widths[i] = c->width > widths[i] ? c->width : widths[i];
        }
    }

    columns = table_fit(t, widths, width);

    for (row = 0; row <= rows; row++) {
        for (i = 0; i < columns; i++) {

            title = t->titles[i] + (t->titles[i][0] == '>');
            right = t->titles[i][0] == '>';
            c = row == 0 ? NULL : &t->cells[(row - 1) * (size_t) t->columns
                                            + (size_t) i];

            pad = widths[i] - (c != NULL ? c->width : (int) strlen(title));
            pad = pad < 0 ? 0 : pad;

            table_pad(out, (i == 0 ? 0 : 2) + (right ? pad : 0));
            style_begin(out, c != NULL ? c->style : STYLE_BOLD);

            if (c == NULL) {
                text_add(out, title);

            } else if (c->width > widths[i]) {
                memset(&cut, 0, sizeof(cut));
                pad = widths[i] - text_show(&cut, c->text.data, widths[i]);
                text_bytes(out, cut.data, cut.len);
                text_free(&cut);

            } else if (c->text.len != 0) {
                text_bytes(out, c->text.data, c->text.len);
            }

            style_end(out, c != NULL ? c->style : STYLE_BOLD);
            table_pad(out, right || i == columns - 1 ? 0 : pad);
        }

        text_add(out, "\n");
    }
}


/*
 * How many columns there is room for: a name in the first one is cut, but so
 * that it can still be told from others; rather the last columns are left out.
 */

static int
table_fit(const table_t *t, int *widths, int width)
{
    int  i, used, columns, least;

    if (width == 0) {
        return t->columns;
    }

    least = widths[0] < TABLE_NAME ? widths[0] : TABLE_NAME;
    used = 0;

    for (columns = 1; columns < t->columns; columns++) {
        if (least + used + 2 + widths[columns] > width) {
            break;
        }

        used += 2 + widths[columns];
    }

    i = width - used;
    i = i < 8 ? 8 : i;
    widths[0] = widths[0] > i ? i : widths[0];

    return columns;
}


static void
table_pad(text_t *out, int n)
{
    if (n > 0) {
        text_printf(out, "%*s", n, "");
    }
}


void
table_print(const table_t *t)
{
    text_t  out;

    memset(&out, 0, sizeof(out));
    table_write(t, &out, 0, 0);
    fwrite(out.data, 1, out.len, stdout);
    text_free(&out);
}


void
table_free(table_t *t)
{
    size_t  i;

    for (i = 0; i < t->ncells; i++) {
        text_free(&t->cells[i].text);
    }

    free(t->cells);
    memset(t, 0, sizeof(table_t));
}


void
show_object(json_t *object, const char *const *skip)
{
    int                 width, n;
    text_t              out;
    json_t             *value;
    const char         *name;
    const char *const  *s;

    memset(&out, 0, sizeof(out));
    width = 0;

    json_object_foreach(object, name, value) {
        n = text_width(name);
        width = n > width && n <= 40 ? n : width;
    }

    json_object_foreach(object, name, value) {
        for (s = skip; *s != NULL && strcmp(*s, name) != 0; s++) {
            /* void */
        }

        if (*s != NULL || json_is_null(value)) {
            continue;
        }

        style_begin(&out, STYLE_DIM);
        n = text_show(&out, name, 0);
        style_end(&out, STYLE_DIM);

        table_pad(&out, (n < width ? width - n : 0) + 2);
        show_value(&out, value);
        text_add(&out, "\n");
    }

    if (out.len != 0) {
        fwrite(out.data, 1, out.len, stdout);
    }

    text_free(&out);
}


static void
show_value(text_t *out, json_t *value)
{
    char  *s;

    if (json_is_string(value)) {
        text_show(out, json_string_value(value), 0);
        return;
    }

    s = json_dumps(value, JSON_ENCODE_ANY|JSON_REAL_PRECISION(12));

    if (s != NULL) {
        text_show(out, s, 0);
    }

    free(s);
}


const char *
member_str(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}


double
member_num(json_t *object, const char *name)
{
    json_t  *value;

    value = json_object_get(object, name);

    return json_is_number(value) ? json_number_value(value) : NAN;
}


int
member_flag(json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}
