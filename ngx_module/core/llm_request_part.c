
/*
 * Copyright (C) the ngx-llm authors
 *
 * The strings of a prompt: which are text, and which are media.
 */


#include <string.h>

#include "core/llm_request_private.h"


#define LLM_REQUEST_SCHEME  256             /* longest head of a data: URL */


static int llm_request_media(const llm_json_t *js);
static int llm_request_data_url(const llm_json_t *js);
static int llm_request_remote(const llm_request_scan_t *sc);
static int llm_request_remote_data(const llm_json_t *js);


/*
 * "type" of a part, and the base64 that stands there bare instead of in a
 * data: URL: input_audio.data, file.file_data or a part's own file_data.
 */

llm_part_e
llm_request_part(const llm_member_t *m, unsigned depth)
{
    if (depth > LLM_DEPTH_HELD) {
        return LLM_PART_TEXT;
    }

    if (m->len == 4) {

        if (depth == LLM_DEPTH_PART) {
            return memcmp(m->name, "type", 4) == 0 ? LLM_PART_TYPE
                                                   : LLM_PART_TEXT;
        }

        return memcmp(m->name, "data", 4) == 0 ? LLM_PART_DATA : LLM_PART_TEXT;
    }

    if (m->len == 9 && memcmp(m->name, "file_data", 9) == 0) {
        return LLM_PART_DATA;
    }

    return LLM_PART_TEXT;
}


static int
llm_request_media(const llm_json_t *js)
{
    switch (js->size) {

    case 4:
        return llm_json_is(js, "file", 4);

    case 9:
        return llm_json_is(js, "image_url", 9);

    case 10:
        return llm_json_is(js, "input_file", 10);

    case 11:
        return llm_json_is(js, "input_image", 11)
               || llm_json_is(js, "input_audio", 11);

    default:
        return 0;
    }
}


/* images and files are no text: base64 says nothing about tokens */

void
llm_request_string(llm_request_scan_t *sc)
{
    llm_json_t  *js;
    llm_part_e   part;

    js = &sc->js;
    part = sc->part;
    sc->part = LLM_PART_TEXT;

    if (part == LLM_PART_DATA || llm_request_data_url(js)) {

        if (part == LLM_PART_DATA && llm_request_remote_data(js)) {
            sc->rq->bypass |= LLM_BYPASS_URL;
        }

        /* the part it belongs to counts once, however it is told */

        if (js->depth >= LLM_DEPTH_PART) {
            sc->media = 1;

        } else {
            sc->rq->media++;
        }

        return;
    }

    if (llm_request_remote(sc)) {
        sc->rq->bypass |= LLM_BYPASS_URL;
    }

    if (part == LLM_PART_TYPE && llm_request_media(js)) {
        sc->media = 1;
    }

    sc->rq->prompt_bytes += js->size;
}


static int
llm_request_data_url(const llm_json_t *js)
{
    size_t                len;
    const unsigned char  *p, *comma;

    p = js->start + 1;
    len = (size_t) (js->end - js->start) - 2;

    if (len <= 12 || memcmp(p, "data:", 5) != 0) {
        return 0;
    }

    len = len < LLM_REQUEST_SCHEME ? len : LLM_REQUEST_SCHEME;
    comma = memchr(p, ',', len);

    return comma != NULL && comma - p >= 12
           && memcmp(comma - 7, ";base64", 7) == 0;
}


/*
 * An image, sound or file that the provider fetches by itself: what lies
 * there may be another one next time.  The string belongs to the last member:
 * "url", "image_url" and the like.
 */

static int
llm_request_remote(const llm_request_scan_t *sc)
{
    const llm_member_t  *m;

    m = &sc->members->elts[sc->members->n - 1];

    if (m->len < 3 || m->name[m->len - 1] != 'l'
        || memcmp(m->name + m->len - 3, "url", 3) != 0)
    {
        return 0;
    }

    return (sc->param == LLM_PARAM_MESSAGES || sc->param == LLM_PARAM_INPUT)
           && (sc->js.size < 5 || memcmp(sc->js.start + 1, "data:", 5) != 0);
}


/* some providers take a URL in place of base64, which has no colon */

static int
llm_request_remote_data(const llm_json_t *js)
{
    return js->size > 6 && memcmp(js->start + 1, "http", 4) == 0
           && memchr(js->start + 5, ':', 2) != NULL;
}
