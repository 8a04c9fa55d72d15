
/*
 * Copyright (C) the ngx-llm authors
 *
 * The fleet's secret (llm_secret): what is made from it alone tells nobody
 * anything.  One key for names (HMAC-SHA256), one for what lies in Redis
 * (AES-256-GCM), both derived from it by HKDF (RFC 5869), so that neither
 * tells of the other.
 */


#ifndef _NGX_HTTP_LLM_SECRET_H_INCLUDED_
#define _NGX_HTTP_LLM_SECRET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_LLM_MAC_LEN    32         /* of a name */
#define NGX_HTTP_LLM_SECRET_ID  16         /* longest key id */
#define NGX_HTTP_LLM_SEAL_LEN   45         /* that a seal adds, at most */


typedef struct ngx_http_llm_secret_s  ngx_http_llm_secret_t;


/*
 * Configuration time: "env:VAR" or "file:PATH" and a key id (1 to 16 of
 * [A-Za-z0-9_-]).  The text is taken as it is, without line ends behind it;
 * at least 32 bytes are asked for, of hex digits 64, of base64 with padding
 * as many as 32 bytes make.  "old": a further secret that opens what was
 * sealed by it, and seals and names nothing.  NULL or NGX_ERROR: an error,
 * logged without a byte of the secret.
 */
ngx_http_llm_secret_t *ngx_http_llm_secret_create(ngx_conf_t *cf,
    ngx_str_t *source, ngx_str_t *id);
ngx_int_t ngx_http_llm_secret_old(ngx_conf_t *cf, ngx_http_llm_secret_t *sc,
    ngx_str_t *source, ngx_str_t *id);

/* a worker's life: fetches OpenSSL's objects; "sc" NULL: no secret is set */
ngx_int_t ngx_http_llm_secret_init_process(ngx_http_llm_secret_t *sc,
    ngx_cycle_t *cycle);

/*
 * One name at a time: HMAC-SHA256 of all that is given, or plain SHA-256
 * without a secret.  "name" gets NGX_HTTP_LLM_MAC_LEN bytes.
 */
ngx_int_t ngx_http_llm_mac_begin(ngx_http_llm_secret_t *sc);
void ngx_http_llm_mac_update(const u_char *p, size_t len);
ngx_int_t ngx_http_llm_mac_end(u_char *name);

/*
 * Seals "in" into "out", which has room for in->len + NGX_HTTP_LLM_SEAL_LEN
 * and is not the memory of "in"; "about" is authenticated with it and not
 * stored: what is moved to another place cannot be opened there.  NGX_ERROR:
 * OpenSSL failed.
 */
ngx_int_t ngx_http_llm_seal(ngx_http_llm_secret_t *sc, ngx_str_t *in,
    ngx_str_t *about, ngx_str_t *out);

/*
 * Opens it into "out", which has room for in->len.  NGX_DECLINED: not sealed
 * by a secret that is known here; NGX_ABORT: not as it was sealed, and
 * nothing of it is in "out".
 */
ngx_int_t ngx_http_llm_open(ngx_http_llm_secret_t *sc, ngx_str_t *in,
    ngx_str_t *about, ngx_str_t *out);


#endif /* _NGX_HTTP_LLM_SECRET_H_INCLUDED_ */
