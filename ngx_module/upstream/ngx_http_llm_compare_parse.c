
/*
 * Copyright (C) the ngx-llm authors
 *
 * From the body of a compare to the bodies of its legs: the bytes stay as the
 * client wrote them, but for "models" and "model".
 */


#include "upstream/ngx_http_llm_compare_private.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_json.h"


#define NGX_HTTP_LLM_COMPARE_NAME  256      /* longest of a model, decoded */


/* a member of the body, and what stands around it; "end" 0: not there */

typedef struct {
    size_t                      name;
    size_t                      start;
    size_t                      end;
    size_t                      before;     /* end of the member before it */
    size_t                      next;       /* name of the one behind it */
} ngx_http_llm_compare_member_t;


typedef struct {
    ngx_http_llm_compare_t        *cp;
    llm_json_t                     js;
    size_t                         before;
    ngx_http_llm_compare_member_t  models;
    ngx_http_llm_compare_member_t  model;
} ngx_http_llm_compare_scan_t;


static ngx_int_t ngx_http_llm_compare_member(ngx_http_llm_compare_scan_t *sc);
static ngx_int_t ngx_http_llm_compare_list(ngx_http_llm_compare_scan_t *sc);
static void ngx_http_llm_compare_edits(ngx_http_llm_compare_scan_t *sc);
static ngx_int_t ngx_http_llm_compare_bad(ngx_http_llm_compare_scan_t *sc,
    const char *code, const char *param, const char *message);
static ngx_int_t ngx_http_llm_compare_syntax(ngx_http_llm_compare_scan_t *sc);
static ngx_chain_t **ngx_http_llm_compare_piece(ngx_pool_t *pool,
    ngx_chain_t **ll, u_char *p, size_t len);


#define ngx_http_llm_compare_at(sc, p)  ((size_t) ((p) - (sc)->js.text))


ngx_int_t
ngx_http_llm_compare_parse(ngx_http_llm_compare_t *cp)
{
    ngx_int_t                    rc;
    ngx_str_t                   *body;
    llm_json_token_e             token;
    ngx_http_llm_compare_scan_t  sc;

    ngx_memzero(&sc, sizeof(ngx_http_llm_compare_scan_t));

    sc.cp = cp;
    body = &cp->ctx->body;

    llm_json_init(&sc.js, body->data, body->len);

    token = llm_json_next(&sc.js);

    if (token == LLM_JSON_ERROR) {
        return ngx_http_llm_compare_syntax(&sc);
    }

    if (token != LLM_JSON_OBJECT) {
        return ngx_http_llm_compare_bad(&sc, "invalid_json", NULL,
                                        "The request body must be a JSON "
                                        "object.");
    }

    while ((token = llm_json_next(&sc.js)) == LLM_JSON_NAME) {

        rc = ngx_http_llm_compare_member(&sc);

        if (rc != NGX_OK) {
            return rc;
        }

        sc.before = ngx_http_llm_compare_at(&sc, sc.js.pos);
    }

    if (token == LLM_JSON_ERROR || llm_json_next(&sc.js) != LLM_JSON_END) {
        return ngx_http_llm_compare_syntax(&sc);
    }

    if (cp->n == 0) {
        return ngx_http_llm_compare_bad(&sc, sc.models.end
                                             ? "invalid_value"
                                             : "missing_required_parameter",
                                        "models", "Missing required "
                                        "parameter: 'models', a list of 1 to "
                                        "16 names of models.");
    }

    ngx_http_llm_compare_edits(&sc);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_compare_member(ngx_http_llm_compare_scan_t *sc)
{
    size_t                          name;
    ngx_int_t                       rc;
    ngx_uint_t                      stream;
    llm_json_token_e                token;
    ngx_http_llm_compare_member_t  *m;

    name = ngx_http_llm_compare_at(sc, sc->js.start);

    if (sc->models.end && sc->models.next == 0) {
        sc->models.next = name;
    }

    m = llm_json_is(&sc->js, "models", 6) ? &sc->models
        : llm_json_is(&sc->js, "model", 5) ? &sc->model : NULL;

    stream = llm_json_is(&sc->js, "stream", 6);

    if (m && m->end) {
        return ngx_http_llm_compare_bad(sc, "duplicate_key", NULL,
                                        "The request body has \"model\" or "
                                        "\"models\" twice.");
    }

    token = llm_json_next(&sc->js);

    if (m) {
        m->name = name;
        m->before = sc->before;
        m->start = ngx_http_llm_compare_at(sc, sc->js.start);
    }

    if (stream && token == LLM_JSON_TRUE) {
        return ngx_http_llm_compare_bad(sc, "unsupported_value", "stream",
                                        "A comparison cannot be streamed: "
                                        "'stream' must be false.");
    }

    if (m == &sc->models) {

        if (token != LLM_JSON_ARRAY && token != LLM_JSON_ERROR) {
            return ngx_http_llm_compare_bad(sc, "invalid_type", "models",
                                            "Invalid type for 'models': "
                                            "expected an array of strings.");
        }

        rc = token == LLM_JSON_ARRAY ? ngx_http_llm_compare_list(sc)
                                     : NGX_DECLINED;

        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? ngx_http_llm_compare_syntax(sc) : rc;
        }

    } else if (token == LLM_JSON_ARRAY || token == LLM_JSON_OBJECT) {
        token = llm_json_skip(&sc->js);
    }

    if (token == LLM_JSON_ERROR) {
        return ngx_http_llm_compare_syntax(sc);
    }

    if (m) {
        m->end = ngx_http_llm_compare_at(sc, sc->js.pos);
    }

    return NGX_OK;
}


/* NGX_DECLINED: it is no JSON */

static ngx_int_t
ngx_http_llm_compare_list(ngx_http_llm_compare_scan_t *sc)
{
    llm_json_token_e             token;
    ngx_http_llm_compare_t      *cp;
    ngx_http_llm_compare_leg_t  *leg;

    cp = sc->cp;

    while ((token = llm_json_next(&sc->js)) != LLM_JSON_ARRAY_END) {

        if (token == LLM_JSON_ERROR) {
            return NGX_DECLINED;
        }

        if (token != LLM_JSON_STRING) {
            return ngx_http_llm_compare_bad(sc, "invalid_type", "models",
                                            "Invalid type for 'models': "
                                            "expected an array of strings.");
        }

        if (sc->js.size == 0 || sc->js.size > NGX_HTTP_LLM_COMPARE_NAME) {
            return ngx_http_llm_compare_bad(sc, "invalid_value", "models",
                                            "Invalid value for 'models': "
                                            "expected names of 1 to 256 "
                                            "bytes.");
        }

        if (cp->n == NGX_HTTP_LLM_COMPARE_MODELS) {
            return ngx_http_llm_compare_bad(sc, "invalid_value", "models",
                                            "Invalid value for 'models': "
                                            "at most 16 models can be "
                                            "compared.");
        }

        leg = &cp->leg[cp->n++];

        leg->model.data = (u_char *) sc->js.start;
        leg->model.len = sc->js.end - sc->js.start;
    }

    return NGX_OK;
}


/*
 * The list gives its place to the leg's model.  If there is a "model", too,
 * it is the value of that, and the list goes, with a comma.
 */

static void
ngx_http_llm_compare_edits(ngx_http_llm_compare_scan_t *sc)
{
    ngx_uint_t                    first;
    ngx_http_llm_compare_t       *cp;
    ngx_http_llm_compare_edit_t  *list, *model;

    cp = sc->cp;

    if (sc->model.end == 0) {

        cp->nedits = 1;
        list = &cp->edit[0];

        list->start = sc->models.name;
        list->end = sc->models.end;
        list->model = 1;
        ngx_str_set(&list->text, "\"model\":");

        return;
    }

    first = sc->model.start < sc->models.start ? 0 : 1;

    cp->nedits = 2;
    model = &cp->edit[first];
    list = &cp->edit[1 - first];

    model->start = sc->model.start;
    model->end = sc->model.end;
    model->model = 1;

    if (sc->models.before) {
        list->start = sc->models.before;
        list->end = sc->models.end;

    } else {
        list->start = sc->models.name;
        list->end = sc->models.next;
    }
}


static ngx_int_t
ngx_http_llm_compare_bad(ngx_http_llm_compare_scan_t *sc, const char *code,
    const char *param, const char *message)
{
    ngx_http_llm_ctx_t  *ctx;

    ctx = sc->cp->ctx;

    (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_REQUEST,
                              "invalid_request_error", code, message);

    ctx->error.param = param;

    return NGX_HTTP_BAD_REQUEST;
}


static ngx_int_t
ngx_http_llm_compare_syntax(ngx_http_llm_compare_scan_t *sc)
{
    u_char              *p;
    size_t               len;
    const char          *what;
    ngx_http_llm_ctx_t  *ctx;

    ctx = sc->cp->ctx;
    what = sc->js.error ? sc->js.error : "no JSON";

    len = sizeof("The request body is not valid JSON:  (at byte  of the "
                 "body)") + NGX_SIZE_T_LEN + ngx_strlen(what);

    p = ngx_pnalloc(ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_llm_compare_bad(sc, "invalid_json", NULL, "");

    ctx->error.message.data = p;
    ctx->error.message.len = ngx_sprintf(p, "The request body is not valid "
                                         "JSON: %s (at byte %uz of the body)",
                                         what,
                                         ngx_http_llm_compare_at(sc,
                                                                 sc->js.pos))
                             - p;

    return NGX_HTTP_BAD_REQUEST;
}


ngx_chain_t *
ngx_http_llm_compare_body(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg, ngx_pool_t *pool, size_t *len)
{
    size_t                         pos;
    ngx_str_t                     *body;
    ngx_uint_t                     i;
    ngx_chain_t                   *out, **ll, *cl;
    ngx_http_llm_compare_edit_t   *e;

    body = &cp->ctx->body;
    ll = &out;
    pos = 0;

    for (i = 0; i < cp->nedits; i++) {
        e = &cp->edit[i];

        ll = ngx_http_llm_compare_piece(pool, ll, body->data + pos,
                                        e->start - pos);
        if (ll) {
            ll = ngx_http_llm_compare_piece(pool, ll, e->text.data,
                                            e->text.len);
        }

        if (ll && e->model) {
            ll = ngx_http_llm_compare_piece(pool, ll, leg->model.data,
                                            leg->model.len);
        }

        if (ll == NULL) {
            return NULL;
        }

        pos = e->end;
    }

    ll = ngx_http_llm_compare_piece(pool, ll, body->data + pos,
                                    body->len - pos);
    if (ll == NULL) {
        return NULL;
    }

    *ll = NULL;

    for (*len = 0, cl = out; cl; cl = cl->next) {
        *len += cl->buf->last - cl->buf->pos;
    }

    return out;
}


static ngx_chain_t **
ngx_http_llm_compare_piece(ngx_pool_t *pool, ngx_chain_t **ll, u_char *p,
    size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (len == 0) {
        return ll;
    }

    b = ngx_calloc_buf(pool);
    cl = ngx_alloc_chain_link(pool);

    if (b == NULL || cl == NULL) {
        return NULL;
    }

    b->pos = p;
    b->last = p + len;
    b->memory = 1;

    cl->buf = b;
    *ll = cl;

    return &cl->next;
}
