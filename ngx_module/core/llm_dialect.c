
/*
 * Copyright (C) the ngx-llm authors
 *
 * Errors as providers word them.  One pass, no tree; what was read before a
 * fault counts, so that an error whose end is missing is still one.
 */


#include "core/llm_dialect_private.h"
#include "core/llm_json.h"

#include <string.h>


/* an error is short; what comes behind is not looked at */

#define LLM_DIALECT_BODY  65536


typedef enum {
    LLM_DIALECT_OTHER = 0,
    LLM_DIALECT_ERROR,
    LLM_DIALECT_MESSAGE,
    LLM_DIALECT_TYPE,
    LLM_DIALECT_PARAM,
    LLM_DIALECT_CODE,
    LLM_DIALECT_STATUS,
    LLM_DIALECT_DETAIL,                     /* FastAPI's */
    LLM_DIALECT_LOC,                        /* … and where */
    LLM_DIALECT_MORE,                       /* what may hold a wait */
    LLM_DIALECT_SECONDS,
    LLM_DIALECT_MS
} llm_dialect_name_e;


/* the object that a member is in */

typedef enum {
    LLM_DIALECT_IN_TOP = 0,
    LLM_DIALECT_IN_ERROR,
    LLM_DIALECT_IN_DETAIL,
    LLM_DIALECT_IN_MORE
} llm_dialect_in_e;


#define LLM_DIALECT_RIGHT  15               /* a bit for each member */


typedef struct {
    llm_str_t             message;
    llm_str_t             type;
    llm_str_t             code;
    llm_str_t             param;
    llm_str_t             status;
} llm_dialect_said_t;


typedef struct {
    llm_json_t            js;
    llm_dialect_said_t    in[LLM_DIALECT_IN_MORE + 1];
    int64_t               wait;
    unsigned              right;
} llm_dialect_read_t;


static int llm_dialect_json(llm_dialect_read_t *rd);
static int llm_dialect_object(llm_dialect_read_t *rd, llm_dialect_in_e in);
static llm_dialect_name_e llm_dialect_name(const llm_json_t *js,
    llm_dialect_in_e in);
static int llm_dialect_member(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name);
static int llm_dialect_inside(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name, llm_json_token_e token);
static int llm_dialect_list(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name);
static void llm_dialect_plain(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name, llm_json_token_e token);
static void llm_dialect_shape(llm_dialect_read_t *rd, llm_dialect_name_e name,
    llm_json_token_e token);
static void llm_dialect_wait(llm_dialect_read_t *rd, const llm_str_t *value,
    int64_t unit);
static void llm_dialect_sum(llm_dialect_read_t *rd, llm_dialect_error_t *e);


/* "error", "message" and "detail" may be at the top of a body, and so on */

#define LLM_DIALECT_AT(in)  (1 << (in))

#define LLM_DIALECT_TELL                                                      \
    (LLM_DIALECT_AT(LLM_DIALECT_IN_TOP)|LLM_DIALECT_AT(LLM_DIALECT_IN_ERROR))

#define LLM_DIALECT_ALL                                                       \
    (LLM_DIALECT_TELL|LLM_DIALECT_AT(LLM_DIALECT_IN_DETAIL)                   \
     |LLM_DIALECT_AT(LLM_DIALECT_IN_MORE))


static const struct {
    const char           *name;
    unsigned char         len;
    unsigned char         in;
    unsigned char         at;

} llm_dialect_names[] = {

#define llm_dialect_entry(s, in, at)  { s, sizeof(s) - 1, in, at }

    llm_dialect_entry("error", LLM_DIALECT_AT(LLM_DIALECT_IN_TOP),
                      LLM_DIALECT_ERROR),
    llm_dialect_entry("message", LLM_DIALECT_TELL
                                 |LLM_DIALECT_AT(LLM_DIALECT_IN_DETAIL),
                      LLM_DIALECT_MESSAGE),
    llm_dialect_entry("msg", LLM_DIALECT_AT(LLM_DIALECT_IN_DETAIL),
                      LLM_DIALECT_MESSAGE),
    llm_dialect_entry("type", LLM_DIALECT_TELL, LLM_DIALECT_TYPE),
    llm_dialect_entry("param", LLM_DIALECT_TELL, LLM_DIALECT_PARAM),
    llm_dialect_entry("code", LLM_DIALECT_TELL
                              |LLM_DIALECT_AT(LLM_DIALECT_IN_MORE),
                      LLM_DIALECT_CODE),
    llm_dialect_entry("status", LLM_DIALECT_AT(LLM_DIALECT_IN_ERROR),
                      LLM_DIALECT_STATUS),
    llm_dialect_entry("detail", LLM_DIALECT_AT(LLM_DIALECT_IN_TOP)
                                |LLM_DIALECT_AT(LLM_DIALECT_IN_DETAIL),
                      LLM_DIALECT_DETAIL),
    llm_dialect_entry("loc", LLM_DIALECT_AT(LLM_DIALECT_IN_DETAIL),
                      LLM_DIALECT_LOC),
    llm_dialect_entry("details", LLM_DIALECT_TELL, LLM_DIALECT_MORE),
    llm_dialect_entry("metadata", LLM_DIALECT_TELL, LLM_DIALECT_MORE),
    llm_dialect_entry("innererror", LLM_DIALECT_TELL, LLM_DIALECT_MORE),
    llm_dialect_entry("inner_error", LLM_DIALECT_TELL, LLM_DIALECT_MORE),
    llm_dialect_entry("retry_after", LLM_DIALECT_ALL, LLM_DIALECT_SECONDS),
    llm_dialect_entry("retry_after_seconds", LLM_DIALECT_ALL,
                      LLM_DIALECT_SECONDS),
    llm_dialect_entry("retryDelay", LLM_DIALECT_AT(LLM_DIALECT_IN_MORE),
                      LLM_DIALECT_SECONDS),
    llm_dialect_entry("retry_after_ms", LLM_DIALECT_ALL, LLM_DIALECT_MS)
};


size_t
llm_dialect_blank(const unsigned char *p, size_t len)
{
    size_t  n;

    n = 0;

    for ( ;; ) {
        if (n < len && (p[n] == ' ' || p[n] == '\n' || p[n] == '\r'
                        || p[n] == '\t'))
        {
            n++;

        } else if (len - n >= 3 && memcmp(p + n, "\xef\xbb\xbf", 3) == 0) {
            n += 3;

        } else {
            return n;
        }
    }
}


void
llm_dialect_error(llm_dialect_error_t *e, unsigned status,
    unsigned char *body, size_t len)
{
    size_t              n;
    llm_str_t           text;
    llm_dialect_read_t  rd;

    memset(e, 0, sizeof(llm_dialect_error_t));
    e->wait = -1;

    n = len != 0 ? llm_dialect_blank(body, len) : 0;

    text.data = len != 0 ? body + n : body;
    text.len = len - n < LLM_DIALECT_BODY ? len - n : LLM_DIALECT_BODY;

    memset(&rd, 0, sizeof(llm_dialect_read_t));
    rd.wait = -1;

    llm_json_init(&rd.js, text.data, text.len);

    if (llm_dialect_json(&rd) == LLM_OK && len - n == text.len) {
        e->right = (rd.right == LLM_DIALECT_RIGHT);
    }

    llm_dialect_sum(&rd, e);

    if (e->known || e->right) {
        e->known = 1;
        text = e->message;

    } else if (text.len != 0 && *text.data == '<') {
        text.len = 0;
    }

    if (e->wait == -1) {
        e->wait = llm_dialect_hint(&text);
    }

    llm_dialect_words(e, status, &text,
                      e->wait != -1
                      || llm_dialect_equal(&rd.in[LLM_DIALECT_IN_ERROR].status,
                                           "RESOURCE_EXHAUSTED"));

    if (llm_dialect_equal(&rd.in[LLM_DIALECT_IN_MORE].code,
                          "ResponsibleAIPolicyViolation"))
    {
        e->filtered = 1;
    }
}


/* LLM_OK: one whole value; what was found on the way stays in any case */

static int
llm_dialect_json(llm_dialect_read_t *rd)
{
    int               array;
    llm_json_token_e  token;

    token = llm_json_next(&rd->js);
    array = (token == LLM_JSON_ARRAY);

    if (array) {
        token = llm_json_next(&rd->js);
    }

    if (token == LLM_JSON_STRING) {
        llm_dialect_plain(rd, LLM_DIALECT_IN_TOP, LLM_DIALECT_MESSAGE, token);
        return LLM_DECLINED;
    }

    if (token != LLM_JSON_OBJECT
        || llm_dialect_object(rd, LLM_DIALECT_IN_TOP) != LLM_OK
        || array)
    {
        return LLM_DECLINED;
    }

    return llm_json_next(&rd->js) == LLM_JSON_END ? LLM_OK : LLM_DECLINED;
}


/* the rest of an object whose brace was read */

static int
llm_dialect_object(llm_dialect_read_t *rd, llm_dialect_in_e in)
{
    llm_json_token_e    token;
    llm_dialect_name_e  name;

    while ((token = llm_json_next(&rd->js)) == LLM_JSON_NAME) {
        name = llm_dialect_name(&rd->js, in);

        if (llm_dialect_member(rd, in, name) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return token == LLM_JSON_OBJECT_END ? LLM_OK : LLM_ERROR;
}


static llm_dialect_name_e
llm_dialect_name(const llm_json_t *js, llm_dialect_in_e in)
{
    size_t  i, n;

    n = sizeof(llm_dialect_names) / sizeof(llm_dialect_names[0]);

    for (i = 0; i < n; i++) {

        if ((llm_dialect_names[i].in & LLM_DIALECT_AT(in)) != 0
            && llm_json_is(js, llm_dialect_names[i].name,
                           llm_dialect_names[i].len))
        {
            return (llm_dialect_name_e) llm_dialect_names[i].at;
        }
    }

    return LLM_DIALECT_OTHER;
}


/* behind a name: reads its value */

static int
llm_dialect_member(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name)
{
    llm_json_token_e  token;

    token = llm_json_next(&rd->js);

    if (name == LLM_DIALECT_ERROR) {

        /* the last one counts, as it does for clients */

        memset(&rd->in[LLM_DIALECT_IN_ERROR], 0, sizeof(llm_dialect_said_t));
        rd->right = 0;

    } else if (in == LLM_DIALECT_IN_ERROR) {
        llm_dialect_shape(rd, name, token);
    }

    switch (token) {

    case LLM_JSON_OBJECT:
    case LLM_JSON_ARRAY:
        return llm_dialect_inside(rd, in, name, token);

    case LLM_JSON_STRING:
    case LLM_JSON_NUMBER:
        llm_dialect_plain(rd, in, name, token);
        return LLM_OK;

    case LLM_JSON_TRUE:
    case LLM_JSON_FALSE:
    case LLM_JSON_NULL:
        return LLM_OK;

    default:
        return LLM_ERROR;
    }
}


static int
llm_dialect_inside(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name, llm_json_token_e token)
{
    int  next;

    switch (name) {

    case LLM_DIALECT_ERROR:
        next = LLM_DIALECT_IN_ERROR;
        break;

    case LLM_DIALECT_MORE:
        next = LLM_DIALECT_IN_MORE;
        break;

    case LLM_DIALECT_MESSAGE:
    case LLM_DIALECT_DETAIL:
        next = LLM_DIALECT_IN_DETAIL;
        break;

    default:
        next = -1;
    }

    if (token == LLM_JSON_OBJECT && next != -1) {
        return llm_dialect_object(rd, (llm_dialect_in_e) next);
    }

    if (token == LLM_JSON_ARRAY && in != LLM_DIALECT_IN_MORE
        && name != LLM_DIALECT_ERROR
        && (next != -1 || name == LLM_DIALECT_LOC))
    {
        return llm_dialect_list(rd, in, name);
    }

    return llm_json_skip(&rd->js) != LLM_JSON_ERROR ? LLM_OK : LLM_ERROR;
}


/* of "detail" the first one counts, of "loc" the last, of "details" all */

static int
llm_dialect_list(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name)
{
    unsigned            n;
    llm_json_token_e    token;
    llm_dialect_name_e  at;

    for (n = 0; /* void */ ; n++) {
        token = llm_json_next(&rd->js);

        switch (token) {

        case LLM_JSON_ARRAY_END:
            return LLM_OK;

        case LLM_JSON_ERROR:
            return LLM_ERROR;

        case LLM_JSON_OBJECT:
        case LLM_JSON_ARRAY:
            at = token == LLM_JSON_OBJECT
                 && (n == 0 || name == LLM_DIALECT_MORE)
                 ? name : LLM_DIALECT_OTHER;

            if (llm_dialect_inside(rd, in, at, token) != LLM_OK) {
                return LLM_ERROR;
            }

            break;

        case LLM_JSON_STRING:
            if (name == LLM_DIALECT_LOC) {
                llm_dialect_plain(rd, in, LLM_DIALECT_PARAM, token);

            } else if (name != LLM_DIALECT_MORE && n == 0) {
                llm_dialect_plain(rd, LLM_DIALECT_IN_DETAIL,
                                  LLM_DIALECT_MESSAGE, token);
            }

            break;

        default:
            break;
        }
    }
}


static void
llm_dialect_plain(llm_dialect_read_t *rd, llm_dialect_in_e in,
    llm_dialect_name_e name, llm_json_token_e token)
{
    int                  string;
    llm_str_t            value;
    llm_dialect_said_t  *said;

    string = (token == LLM_JSON_STRING);
    said = &rd->in[in];

    value.data = (unsigned char *) rd->js.start + string;
    value.len = (size_t) (rd->js.end - rd->js.start) - 2 * (size_t) string;

    switch (name) {

    case LLM_DIALECT_SECONDS:
        llm_dialect_wait(rd, &value, 1000);
        return;

    case LLM_DIALECT_MS:
        llm_dialect_wait(rd, &value, 1);
        return;

    case LLM_DIALECT_CODE:
        said->code = value;
        return;

    default:
        break;
    }

    if (!string) {
        return;
    }

    switch (name) {

    case LLM_DIALECT_ERROR:
        rd->in[LLM_DIALECT_IN_ERROR].message = value;
        break;

    case LLM_DIALECT_DETAIL:
        rd->in[LLM_DIALECT_IN_DETAIL].message = value;
        break;

    case LLM_DIALECT_MESSAGE:
        said->message = value;
        break;

    case LLM_DIALECT_TYPE:
        said->type = value;
        break;

    case LLM_DIALECT_PARAM:
        said->param = value;
        break;

    case LLM_DIALECT_STATUS:
        said->status = value;
        break;

    default:
        break;
    }
}


/* has a member of the error object the type that the API says? */

static void
llm_dialect_shape(llm_dialect_read_t *rd, llm_dialect_name_e name,
    llm_json_token_e token)
{
    unsigned  bit;

    switch (name) {

    case LLM_DIALECT_MESSAGE:
        bit = 1;
        break;

    case LLM_DIALECT_TYPE:
        bit = 2;
        break;

    case LLM_DIALECT_PARAM:
        bit = 4;
        break;

    case LLM_DIALECT_CODE:
        bit = 8;
        break;

    default:
        return;
    }

    if (token == LLM_JSON_STRING || (token == LLM_JSON_NULL && bit != 1)) {
        rd->right |= bit;

    } else {
        rd->right &= ~bit;
    }
}


static void
llm_dialect_wait(llm_dialect_read_t *rd, const llm_str_t *value, int64_t unit)
{
    int64_t               ms;
    const unsigned char  *p, *end;

    p = value->data;
    end = p + value->len;

    ms = llm_dialect_span(&p, end, unit);

    /* the longest of several: they all must be over */

    if (p == end && ms > rd->wait) {
        rd->wait = ms;
    }
}


static void
llm_dialect_sum(llm_dialect_read_t *rd, llm_dialect_error_t *e)
{
    llm_dialect_said_t  *top, *inner, *detail;

    top = &rd->in[LLM_DIALECT_IN_TOP];
    inner = &rd->in[LLM_DIALECT_IN_ERROR];
    detail = &rd->in[LLM_DIALECT_IN_DETAIL];

    e->message = inner->message.len != 0 ? inner->message
                 : top->message.len != 0 ? top->message : detail->message;

    e->code = inner->code.len != 0 ? inner->code
              : inner->status.len != 0 ? inner->status : top->code;

    e->param = inner->param.len != 0 ? inner->param
               : top->param.len != 0 ? top->param : detail->param;

    /* that it is an error is no type of one */

    e->type = inner->type.len != 0 || llm_dialect_equal(&top->type, "error")
              ? inner->type : top->type;

    e->wait = rd->wait;

    e->known = (e->message.len != 0 || e->type.len != 0 || e->code.len != 0);
}
