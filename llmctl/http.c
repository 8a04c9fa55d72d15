
/*
 * Copyright (C) the ngx-llm authors
 *
 * One request to the admin API, and what its status means.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <curl/curl.h>


#define HTTP_LARGEST  (32 * 1024 * 1024)
#define HTTP_PAGES    10000


text_t                     http_error;

static text_t              http_base;
static CURL               *http_curl;
static struct curl_slist  *http_secret;
static long                http_timeout = 10000;
static int               (*http_stop)(void);


static int http_is_change(const char *method);
static size_t http_body(char *data, size_t size, size_t n, void *answer);
static int http_progress(void *data, curl_off_t a, curl_off_t b, curl_off_t c,
    curl_off_t d);
static int http_failed(CURLcode rc, const char *method, answer_t *answer,
    const char *reason);
static int http_status(answer_t *answer);
static void http_print(const answer_t *answer);


int
http_init(const args_t *a)
{
    int64_t      seconds;
    size_t       len;
    text_t       header, secret;
    const char  *url;

    url = a->values[OPT_URL];
    url = url != NULL ? url : getenv("LLMCTL_URL");
    url = url != NULL && *url != '\0' ? url : LLMCTL_URL;

    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        return args_wrong(a, "%s: expected http://HOST:PORT", url);
    }

    len = strlen(url);

    while (len > 0 && url[len - 1] == '/') {
        len--;
    }

    text_bytes(&http_base, url, len);

    if (a->values[OPT_TIMEOUT] != NULL) {
        if (value_read_span(a->values[OPT_TIMEOUT], &seconds) != 0
            || seconds < 1 || seconds > 86400)
        {
            return args_wrong(a, "--timeout: from 1s to 1d");
        }

        http_timeout = (long) seconds * 1000;
    }

    memset(&secret, 0, sizeof(secret));

    if (secret_find(a, http_base.data, &secret) != CTL_OK) {
        text_free(&secret);
        return CTL_USAGE;
    }

    if (secret.len != 0) {
        memset(&header, 0, sizeof(header));
        text_printf(&header, "Authorization: Bearer %s", secret.data);
        http_secret = curl_slist_append(NULL, header.data);
        text_free(&header);
    }

    text_free(&secret);

    curl_global_init(CURL_GLOBAL_DEFAULT);
    http_curl = curl_easy_init();

    if (http_curl == NULL) {
        fprintf(stderr, "llmctl: libcurl does not start\n");
        return CTL_REFUSED;
    }

    return CTL_OK;
}


const char *
http_url(void)
{
    return http_base.data;
}


void
http_watch(int (*stop)(void), long timeout_ms)
{
    http_stop = stop;
    http_timeout = timeout_ms < http_timeout ? timeout_ms : http_timeout;
}


int
http_try(const char *method, const char *path, json_t *body, answer_t *answer)
{
    char      reason[CURL_ERROR_SIZE], *data;
    text_t    url;
    CURL     *curl;
    CURLcode  rc;

    struct curl_slist  *headers;

    curl = http_curl;
    data = NULL;
    reason[0] = '\0';

    memset(answer, 0, sizeof(answer_t));
    memset(&url, 0, sizeof(url));
    text_free(&http_error);

    text_printf(&url, "%s/admin/v1%s", http_base.data, path);

    headers = http_secret == NULL ? NULL
              : curl_slist_append(NULL, http_secret->data);

    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url.data);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, http_timeout);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "llmctl/" LLMCTL_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, http_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);

    /* a proxy would learn the secret */
    curl_easy_setopt(curl, CURLOPT_PROXY, "");

    if (body != NULL) {
        data = json_dumps(body, JSON_COMPACT);
        headers = curl_slist_append(headers, "Content-Type: application/json");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, data);
    }

    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);

    if (http_stop != NULL) {
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, http_progress);
    }

    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);

    curl_slist_free_all(headers);
    text_free(&url);
    free(data);

    if (rc != CURLE_OK) {
        return http_failed(rc, method, answer,
                           reason[0] != '\0' ? reason
                                             : curl_easy_strerror(rc));
    }

    return http_status(answer);
}


static size_t
http_body(char *data, size_t size, size_t n, void *answer)
{
    answer_t  *an = answer;

    if (size * n > HTTP_LARGEST - an->body.len) {
        return 0;
    }

    text_bytes(&an->body, data, size * n);

    return size * n;
}


static int
http_progress(void *data, curl_off_t a, curl_off_t b, curl_off_t c,
    curl_off_t d)
{
    (void) data;
    (void) a;
    (void) b;
    (void) c;
    (void) d;

    return http_stop();
}


static int
http_failed(CURLcode rc, const char *method, answer_t *answer,
    const char *reason)
{
    if (rc == CURLE_WRITE_ERROR) {
        text_printf(&http_error, "%s: an answer of more than %d MB",
                    http_base.data, HTTP_LARGEST / 1024 / 1024);
        return CTL_REFUSED;
    }

    text_add(&http_error, http_base.data);
    text_add(&http_error, ": ");
    text_show(&http_error, reason, 0);

    if (http_is_change(method)
        && (rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_GOT_NOTHING
            || rc == CURLE_RECV_ERROR || rc == CURLE_PARTIAL_FILE
            || answer->status != 0))
    {
        text_add(&http_error, "; it is not known whether this was done");
    }

    return CTL_CONNECT;
}


static int
http_is_change(const char *method)
{
    return strcmp(method, "GET") != 0;
}


static int
http_status(answer_t *answer)
{
    json_t        *error;
    json_error_t   where;
    const char    *message, *code, *param;

    if (answer->body.data != NULL) {
        answer->json = json_loadb(answer->body.data, answer->body.len,
                                  0, &where);
    }

    if (answer->status >= 200 && answer->status < 300) {
        if (json_is_object(answer->json)) {
            return CTL_OK;
        }

        return http_malformed("is no JSON object");
    }

    error = json_object_get(answer->json, "error");
    message = member_str(error, "message");
    code = member_str(error, "code");
    param = member_str(error, "param");

    if (message != NULL) {
        text_show(&http_error, message, 500);

    } else {
        text_printf(&http_error, "%s: not an answer of the admin API",
                    http_base.data);
    }

    text_printf(&http_error, " (%ld", answer->status);

    if (code != NULL) {
        text_add(&http_error, " ");
        text_show(&http_error, code, 100);
    }

    if (param != NULL) {
        text_add(&http_error, ", ");
        text_show(&http_error, param, 100);
    }

    text_add(&http_error, ")");

    if (answer->status != 401 && answer->status != 403) {
        return CTL_REFUSED;
    }

    if (http_secret == NULL) {
        text_add(&http_error, "; no secret was given: --secret-file,"
                 " LLMCTL_SECRET or LLMCTL_SECRET_FILE");
    }

    return CTL_DENIED;
}


int
http_call(const args_t *a, const char *method, const char *path, json_t *body,
    answer_t *answer)
{
    int  rc;

    rc = http_try(method, path, body, answer);

    if (a->values[OPT_JSON] != NULL && answer->json != NULL) {
        http_print(answer);
    }

    if (rc != CTL_OK) {
        fprintf(stderr, "llmctl: %s\n", http_error.data);
    }

    return rc;
}


/*
 * As it is; but to a terminal what is a control character goes as the escape
 * that means the same: in JSON these can only be within strings.
 */

static void
http_print(const answer_t *answer)
{
    size_t                i, len;
    const unsigned char  *p;

    p = (const unsigned char *) answer->body.data;
    len = answer->body.len;

    for (i = 0; i < len; i++) {

        if (!isatty(STDOUT_FILENO)) {
            fwrite(p, 1, len, stdout);
            break;
        }

        if (p[i] == 0x7f) {
            printf("\\u007f");

        } else if (p[i] == 0xc2 && i + 1 < len && p[i + 1] < 0xa0) {
            printf("\\u00%02x", p[++i]);

        } else {
            putchar(p[i]);
        }
    }

    if (len != 0 && p[len - 1] != '\n') {
        putchar('\n');
    }
}


void
http_free(answer_t *answer)
{
    json_decref(answer->json);
    answer->json = NULL;
    text_free(&answer->body);
}


int
http_malformed(const char *what)
{
    text_free(&http_error);
    text_printf(&http_error, "%s: the answer %s", http_base.data, what);

    return CTL_REFUSED;
}


int
http_list(const args_t *a, const char *path,
    void (*row)(void *data, json_t *object), void *data)
{
    int          rc, page;
    size_t       i;
    text_t       url;
    json_t      *list, *object;
    answer_t     answer;
    const char  *next;

    memset(&url, 0, sizeof(url));
    text_add(&url, path);
    query_add(&url, "limit", a->values[OPT_LIMIT]);
    query_add(&url, "after", a->values[OPT_AFTER]);

    for (page = 0; page < HTTP_PAGES; page++) {

        rc = http_call(a, "GET", url.data, NULL, &answer);

        if (rc != CTL_OK) {
            break;
        }

        list = json_object_get(answer.json, "data");

        if (!json_is_array(list)) {
            rc = http_malformed("is no list");
            fprintf(stderr, "llmctl: %s\n", http_error.data);
            break;
        }

        json_array_foreach(list, i, object) {
            if (json_is_object(object) && a->values[OPT_JSON] == NULL) {
                row(data, object);
            }
        }

        next = member_str(answer.json, "next");

        if (!member_flag(answer.json, "has_more") || next == NULL
            || a->values[OPT_LIMIT] != NULL)
        {
            break;
        }

        url.len = 0;
        text_add(&url, path);
        query_add(&url, "after", next);
        http_free(&answer);
    }

    http_free(&answer);
    text_free(&url);

    return rc;
}
