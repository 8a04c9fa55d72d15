
/*
 * Copyright (C) the ngx-llm authors
 *
 * URLs and addresses of others that clients name: what is taken apart here is
 * strict, since a URL that two parsers read differently leads past a list of
 * hosts that may be called.
 */


#ifndef _LLM_URL_H_INCLUDED_
#define _LLM_URL_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_URL_MAX      2048               /* bytes */
#define LLM_URL_HOST     253


/* an IP address in network byte order */

typedef struct {
    unsigned char         bytes[16];
    size_t                len;              /* 4, 16; 0: none */
} llm_address_t;


/* all inside of what was parsed */

typedef struct {
    llm_str_t             host;             /* IPv6 without its brackets */
    llm_str_t             authority;        /* host and port as they stand */
    llm_str_t             path;             /* with the query; may be empty
                                               or begin with "?" */
    llm_address_t         address;          /* of a host that is one */
    unsigned              port;             /* of the scheme if not given */
    unsigned              tls:1;            /* https */
    unsigned              explicit:1;       /* the port was given */
} llm_url_t;


/*
 * http://HOST[:PORT][/PATH][?QUERY] or https.  LLM_ERROR: it is none, it is
 * longer than LLM_URL_MAX, or it has what is refused: a user, a fragment,
 * bytes other than those of visible ASCII (names beyond it come as punycode),
 * a host that is neither a name nor an address in full (127.1, 0x7f.0.0.1).
 */
int llm_url_parse(const unsigned char *p, size_t len, llm_url_t *url);

/*
 * May the URL be called by this entry of a list?  An entry is
 *
 *     NAME, *.NAME            https, port 443 or NAME:PORT
 *     SCHEME://NAME           that scheme and its port, or SCHEME://NAME:PORT
 *     SCHEME://ADDRESS:PORT   that address and port, also a private one
 *
 * where "*." stands for one label or more.  LLM_OK or LLM_DECLINED;
 * LLM_ERROR: the entry is none of these ("url" may be NULL to learn that).
 */
int llm_url_allowed(const llm_str_t *entry, const llm_url_t *url);

/* an address as text, without brackets: LLM_OK or LLM_ERROR */
int llm_address_parse(const unsigned char *p, size_t len, llm_address_t *a);

/*
 * 1: an address of the public internet; 0: one that is private, of this host,
 * of this link, of a group, reserved, for documentation, or that holds such
 * an IPv4 address (mapped, NAT64).  "len" is 4 or 16.
 */
int llm_address_public(const unsigned char *bytes, size_t len);


#endif /* _LLM_URL_H_INCLUDED_ */
