
/*
 * Copyright (C) the ngx-llm authors
 *
 * The header of a form's part: which field it is, and of which file.
 */


#include <string.h>

#include "core/llm_batch_text.h"
#include "core/llm_multipart_private.h"


typedef struct {
    llm_multipart_t      *mp;
    const unsigned char  *fault;
    unsigned              disposition:1;
    unsigned              type:1;
    unsigned              encoding:1;
    unsigned              name:1;
    unsigned              filename:1;
    unsigned              extended:1;         /* filename*, which wins */
} llm_multipart_head_t;


static int llm_multipart_value(const unsigned char **pos,
    const unsigned char *last, llm_multipart_param_t *param);
static const char *llm_multipart_line(llm_multipart_head_t *h,
    const unsigned char *p, const unsigned char *last);
static const char *llm_multipart_disposition(llm_multipart_head_t *h,
    const llm_str_t *value);
static const char *llm_multipart_known(llm_multipart_head_t *h,
    llm_multipart_param_t *param);
static int llm_multipart_token(unsigned char c);
static void llm_multipart_unquote(llm_multipart_param_t *param);
static int llm_multipart_extended(llm_multipart_param_t *param);
static int llm_multipart_hex(unsigned char c);
static int llm_multipart_clean(const llm_str_t *s);


int
llm_multipart_is(const llm_str_t *s, const char *name, size_t len)
{
    size_t         i;
    unsigned char  c;

    if (s->len != len) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        c = s->data[i];

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        if (c != (unsigned char) name[i]) {
            return 0;
        }
    }

    return 1;
}


static int
llm_multipart_token(unsigned char c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?={}", c) == NULL;
}


int
llm_multipart_param(const unsigned char **pos, const unsigned char *last,
    llm_multipart_param_t *param)
{
    const unsigned char  *p;

    /* semicolons without anything behind them are common */

    for (p = *pos; p < last && (*p == ' ' || *p == '\t' || *p == ';'); p++) {
        /* void */
    }

    *pos = p;

    if (p == last) {
        return LLM_DECLINED;
    }

    param->name.data = (unsigned char *) p;

    while (p < last && llm_multipart_token(*p)) {
        p++;
    }

    param->name.len = (size_t) (p - *pos);

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (param->name.len == 0 || p == last || *p != '=') {
        *pos = p;
        return LLM_ERROR;
    }

    p++;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    *pos = p;

    if (llm_multipart_value(pos, last, param) != LLM_OK) {
        return LLM_ERROR;
    }

    p = *pos;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    *pos = p;

    return p < last && *p != ';' ? LLM_ERROR : LLM_OK;
}


/* in quotes, or up to what ends it; LLM_ERROR: the quotes are not closed */

static int
llm_multipart_value(const unsigned char **pos, const unsigned char *last,
    llm_multipart_param_t *param)
{
    const unsigned char  *p;

    p = *pos;
    param->quoted = (p < last && *p == '"');

    if (!param->quoted) {
        param->value.data = (unsigned char *) p;

        while (p < last && *p > ' ' && *p != ';' && *p != '"') {
            p++;
        }

        param->value.len = (size_t) (p - param->value.data);
        *pos = p;

        return LLM_OK;
    }

    param->value.data = (unsigned char *) ++p;

    while (p < last && *p != '"') {
        p += (*p == '\\' && last - p > 1
              && (p[1] == '"' || p[1] == '\\')) ? 2 : 1;
    }

    param->value.len = (size_t) (p - param->value.data);
    *pos = p;

    if (p == last) {
        return LLM_ERROR;
    }

    (*pos)++;

    return LLM_OK;
}


const char *
llm_multipart_head(llm_multipart_t *mp, unsigned char *head, size_t len,
    const unsigned char **fault)
{
    const char            *error;
    const unsigned char   *p, *end, *last;
    llm_multipart_head_t   h;

    memset(&h, 0, sizeof(llm_multipart_head_t));
    memset(&mp->name, 0, sizeof(llm_str_t));
    memset(&mp->filename, 0, sizeof(llm_str_t));
    memset(&mp->type, 0, sizeof(llm_str_t));

    h.mp = mp;
    mp->file = 0;
    last = head + len;

    for (p = head; p < last; p = end + 2) {
        end = p;

        while (*end >= ' ' || *end == '\t') {

            if (*end == 0x7f) {
                break;
            }

            end++;
        }

        /* the last line ends like all others */

        if (*end != '\r' || end[1] != '\n') {
            *fault = end;
            return "a control character in the header of a part";
        }

        error = llm_multipart_line(&h, p, end);

        if (error != NULL) {
            *fault = h.fault;
            return error;
        }
    }

    *fault = head;

    if (!h.disposition) {
        return "a part has no Content-Disposition";
    }

    if (mp->name.len == 0) {
        return "a part has no name";
    }

    return NULL;
}


static const char *
llm_multipart_line(llm_multipart_head_t *h, const unsigned char *p,
    const unsigned char *last)
{
    llm_str_t  name, value;

    h->fault = p;
    name.data = (unsigned char *) p;

    while (p < last && llm_multipart_token(*p)) {
        p++;
    }

    name.len = (size_t) (p - name.data);

    if (name.len == 0 || p == last || *p != ':') {
        h->fault = p;
        return "a line in the header of a part is no header";
    }

    for (p++; p < last && (*p == ' ' || *p == '\t'); p++) { /* void */ }

    while (last > p && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    value.data = (unsigned char *) p;
    value.len = (size_t) (last - p);

    if (llm_multipart_is(&name, "content-disposition", 19)) {

        if (h->disposition) {
            return "a part has two Content-Disposition";
        }

        h->disposition = 1;

        return llm_multipart_disposition(h, &value);
    }

    if (llm_multipart_is(&name, "content-type", 12)) {

        if (h->type) {
            return "a part has two Content-Type";
        }

        h->type = 1;
        h->mp->type = value;
    }

    if (llm_multipart_is(&name, "content-transfer-encoding", 25)
        && !llm_multipart_is(&value, "binary", 6)
        && !llm_multipart_is(&value, "8bit", 4)
        && !llm_multipart_is(&value, "7bit", 4))
    {
        return "a part has a Content-Transfer-Encoding";
    }

    return NULL;
}


static const char *
llm_multipart_disposition(llm_multipart_head_t *h, const llm_str_t *value)
{
    int                     rc;
    const char             *error;
    llm_str_t               kind;
    const unsigned char    *p, *last;
    llm_multipart_param_t   param;

    p = value->data;
    last = p + value->len;

    while (p < last && llm_multipart_token(*p)) {
        p++;
    }

    kind.data = value->data;
    kind.len = (size_t) (p - value->data);

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (!llm_multipart_is(&kind, "form-data", 9) || (p < last && *p != ';')) {
        h->fault = value->data;
        return "a part's Content-Disposition is not form-data";
    }

    while ((rc = llm_multipart_param(&p, last, &param)) == LLM_OK) {
        h->fault = param.name.data;

        error = llm_multipart_known(h, &param);

        if (error != NULL) {
            return error;
        }
    }

    if (rc == LLM_ERROR) {
        h->fault = p;
        return "a parameter of a part's Content-Disposition is malformed";
    }

    return NULL;
}


static const char *
llm_multipart_known(llm_multipart_head_t *h, llm_multipart_param_t *param)
{
    unsigned          twice;
    llm_multipart_t  *mp;

    mp = h->mp;

    if (llm_multipart_is(&param->name, "filename*", 9)) {
        twice = h->extended;
        h->extended = 1;

        if (llm_multipart_extended(param) != LLM_OK) {
            return "a part's filename* is malformed";
        }

        mp->file = 1;
        mp->filename = param->value;

    } else if (llm_multipart_is(&param->name, "filename", 8)) {
        twice = h->filename;
        h->filename = 1;

        llm_multipart_unquote(param);

        mp->file = 1;

        if (!h->extended) {
            mp->filename = param->value;
        }

    } else if (llm_multipart_is(&param->name, "name", 4)) {
        twice = h->name;
        h->name = 1;

        llm_multipart_unquote(param);

        mp->name = param->value;

    } else {
        return NULL;
    }

    if (twice) {
        return "a parameter of a part's Content-Disposition stands twice";
    }

    if (!llm_multipart_clean(&param->value)) {
        return "a part's name is not UTF-8";
    }

    return NULL;
}


/*
 * In place.  A backslash stands for itself unless a quote or another one
 * follows; browsers write %22 for a quote, and leave other signs alone.
 */

static void
llm_multipart_unquote(llm_multipart_param_t *param)
{
    unsigned char  *p, *out, *last;

    if (!param->quoted) {
        return;
    }

    out = param->value.data;
    last = out + param->value.len;

    for (p = out; p < last; p++) {

        if (*p == '\\' && last - p > 1 && (p[1] == '"' || p[1] == '\\')) {
            p++;
            *out++ = *p;

        } else if (last - p > 2 && memcmp(p, "%22", 3) == 0) {
            p += 2;
            *out++ = '"';

        } else {
            *out++ = *p;
        }
    }

    param->value.len = (size_t) (out - param->value.data);
}


/* UTF-8'en'percent%20encoded (RFC 8187) */

static int
llm_multipart_extended(llm_multipart_param_t *param)
{
    int             high, low;
    llm_str_t       charset;
    unsigned char  *p, *out, *last;

    p = param->value.data;
    last = p + param->value.len;

    charset.data = p;

    while (p < last && *p != '\'') {
        p++;
    }

    charset.len = (size_t) (p - charset.data);

    if (p == last || !llm_multipart_is(&charset, "utf-8", 5)) {
        return LLM_ERROR;
    }

    for (p++; p < last && *p != '\''; p++) { /* void */ }

    if (p == last) {
        return LLM_ERROR;
    }

    out = ++p;
    param->value.data = out;

    for ( /* void */ ; p < last; p++) {

        if (*p != '%') {
            *out++ = *p;
            continue;
        }

        if (last - p < 3) {
            return LLM_ERROR;
        }

        high = llm_multipart_hex(p[1]);
        low = llm_multipart_hex(p[2]);

        if (high < 0 || low < 0) {
            return LLM_ERROR;
        }

        *out++ = (unsigned char) (high << 4 | low);
        p += 2;
    }

    param->value.len = (size_t) (out - param->value.data);

    return LLM_OK;
}


static int
llm_multipart_hex(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* UTF-8 without control characters */

static int
llm_multipart_clean(const llm_str_t *s)
{
    size_t                n;
    const unsigned char  *p, *last;

    p = s->data;
    last = p + s->len;

    for ( /* void */ ; p < last; p += n) {
        n = llm_batch_utf8(p, last);

        if (n == 0 || *p < 0x20 || *p == 0x7f) {
            return 0;
        }
    }

    return 1;
}
