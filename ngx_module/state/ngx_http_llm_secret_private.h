
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the secret share.
 */


#ifndef _NGX_HTTP_LLM_SECRET_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_SECRET_PRIVATE_H_INCLUDED_


#include "state/ngx_http_llm_secret.h"

#include <openssl/evp.h>


#define NGX_HTTP_LLM_SECRET_KEY  32
#define NGX_HTTP_LLM_SECRET_OLD  8         /* that may be there at a time */


typedef struct {
    ngx_str_t              id;             /* in "aad", behind its length */
    u_char                 aad[1 + NGX_HTTP_LLM_SECRET_ID];
    u_char                 key[NGX_HTTP_LLM_SECRET_KEY];
    EVP_CIPHER_CTX        *seal;           /* of the first one alone */
    EVP_CIPHER_CTX        *open;
} ngx_http_llm_secret_key_t;


struct ngx_http_llm_secret_s {
    ngx_uint_t             n;
    u_char                 name[NGX_HTTP_LLM_SECRET_KEY];

    /* HMAC's two hashes, each with its half of the key in it */
    EVP_MD_CTX            *inner;
    EVP_MD_CTX            *outer;

    /* the first seals */
    ngx_http_llm_secret_key_t  keys[1 + NGX_HTTP_LLM_SECRET_OLD];
};


/* the contexts of all keys, in a worker; the errors are left in OpenSSL */
ngx_int_t ngx_http_llm_secret_init_seal(ngx_http_llm_secret_t *sc);


#endif /* _NGX_HTTP_LLM_SECRET_PRIVATE_H_INCLUDED_ */
