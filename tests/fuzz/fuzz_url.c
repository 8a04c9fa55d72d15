
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whatever is taken for a URL can be put together again from its parts, none
 * of which could be read as more than it is; and an address is what the
 * system says it is.
 */


#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_url.h"
#include "fuzz_main.h"


static void
address(const unsigned char *p, size_t len, const llm_address_t *a)
{
    char           text[64];
    unsigned char  bytes[16];

    check(len < sizeof(text));
    memcpy(text, p, len);
    text[len] = '\0';

    check(a->len == 4 || a->len == 16);
    check(inet_pton(a->len == 4 ? AF_INET : AF_INET6, text, bytes) == 1);
    check(memcmp(bytes, a->bytes, a->len) == 0);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          i, scheme;
    uint8_t        *text;
    llm_str_t       entry;
    llm_url_t       url;
    llm_address_t   a;

    text = malloc(size ? size : 1);
    memcpy(text, p, size);

    if (llm_address_parse(text, size, &a) == LLM_OK) {
        address(text, size, &a);
    }

    entry.data = text;
    entry.len = size;

    if (llm_url_parse(text, size, &url) == LLM_OK) {
        scheme = url.tls ? 8 : 7;

        check(url.authority.data == text + scheme);
        check(url.path.data == url.authority.data + url.authority.len);
        check(url.path.data + url.path.len == text + size);
        check(url.path.len == 0 || url.path.data[0] == '/'
              || url.path.data[0] == '?');
        check(url.port > 0 && url.port < 65536);
        check(url.host.len > 0 && url.host.len <= LLM_URL_HOST);
        check(url.host.data >= url.authority.data);
        check(url.host.data + url.host.len <= url.path.data);

        if (url.address.len) {
            address(url.host.data, url.host.len, &url.address);
        }

        for (i = 0; i < url.authority.len; i++) {
            check(memchr("/?#@\\ %", url.authority.data[i], 7) == NULL);
        }

        for (i = 0; i < size; i++) {
            check(text[i] > 0x20 && text[i] < 0x7f);
        }

        /* the entry that is its scheme and host allows it, if it is one */

        entry.len = scheme + url.authority.len;

        check(llm_url_allowed(&entry, &url)
              == (url.address.len && !url.explicit ? LLM_ERROR : LLM_OK));

    } else {
        (void) llm_url_allowed(&entry, NULL);
    }

    free(text);

    return 0;
}
