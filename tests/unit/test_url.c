
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "core/llm_url.h"
#include "unit_random.h"


#define count(a)  (sizeof(a) / sizeof((a)[0]))


/* in memory of its own size, for the sanitizer */

static int
parse(const char *text, llm_url_t *url, char *show, size_t size)
{
    int             rc;
    size_t          len;
    unsigned char  *p;

    len = strlen(text);
    p = malloc(len + 1);
    memcpy(p, text, len);
    p = realloc(p, len ? len : 1);

    rc = llm_url_parse(p, len, url);

    show[0] = '\0';

    if (rc == LLM_OK) {
        snprintf(show, size, "%s|%.*s|%.*s|%u|%.*s|%d",
                 url->tls ? "s" : "-", (int) url->host.len,
                 (char *) url->host.data, (int) url->authority.len,
                 (char *) url->authority.data, url->port,
                 (int) url->path.len, (char *) url->path.data,
                 (int) url->address.len);
    }

    free(p);

    return rc;
}


static void
test_good(void **state)
{
    size_t     i;
    char       show[4096];
    llm_url_t  url;

    static const char  *cases[][2] = {
        { "https://example.com", "s|example.com|example.com|443||0" },
        { "http://example.com", "-|example.com|example.com|80||0" },
        { "HTTPS://Example.COM/A?b=c%20d",
          "s|Example.COM|Example.COM|443|/A?b=c%20d|0" },
        { "https://h:8443/", "s|h|h:8443|8443|/|0" },
        { "http://h?q=/x:1@", "-|h|h|80|?q=/x:1@|0" },
        { "http://h/a@b", "-|h|h|80|/a@b|0" },
        { "http://h:1", "-|h|h:1|1||0" },
        { "http://h:65535/x", "-|h|h:65535|65535|/x|0" },
        { "https://xn--bcher-kva.example/",
          "s|xn--bcher-kva.example|xn--bcher-kva.example|443|/|0" },
        { "http://a_b.c-d/", "-|a_b.c-d|a_b.c-d|80|/|0" },
        { "http://127.0.0.1:9/", "-|127.0.0.1|127.0.0.1:9|9|/|4" },
        { "http://8.8.8.8", "-|8.8.8.8|8.8.8.8|80||4" },
        { "https://[::1]:9/x", "s|::1|[::1]:9|9|/x|16" },
        { "https://[2001:db8::1]", "s|2001:db8::1|[2001:db8::1]|443||16" },
        { "http://1a/", "-|1a|1a|80|/|0" },
        { "http://0x.a/", "-|0x.a|0x.a|80|/|0" },
        { "http://1.2.3.4.a/", "-|1.2.3.4.a|1.2.3.4.a|80|/|0" }
    };

    (void) state;

    for (i = 0; i < count(cases); i++) {
        assert_int_equal(parse(cases[i][0], &url, show, sizeof(show)), LLM_OK);
        assert_string_equal(show, cases[i][1]);
    }
}


static void
test_bad(void **state)
{
    size_t     i;
    char       show[4096];
    llm_url_t  url;

    static const char  *cases[] = {
        "", "h", "http", "http:", "http:/", "http://", "https://",
        "http:///x", "http://?x", "ftp://h/", "httpx://h/", "//h/x",
        "http:h", "http:\\\\h", "file:///etc/passwd", "gopher://h/",
        " http://h", "http://h ", "http://h/a b", "http://h/\t",
        "http://h/\r\nX: y", "http://h/\x7f", "http://h/\xc3\xa9",
        ("http://b\xc3\xbc" "cher.example/"), "http://h/#f", "http://h#f",
        "http://u@h/", "http://u:p@h/", "http://u:1@h/", "http://@h/",
        "http://h:80@e/", "http://h\\@e/", "http://h/\\x",
        "http://h:", "http://h:/", "http://h:0/", "http://h:00080/",
        "http://h:080/", "http://h:65536/", "http://h:123456/",
        "http://h:8a/", "http://h:-1/", "http://h:80:90/", "http://h:+1/",
        "http://.h/", "http://h./", "http://h..x/", "http://-h/",
        "http://h-/", "http://h-.x/", "http://x.-h/", "http://h!x/",
        "http://h%2ex/", "http://h*x/", "http://*.h/", "http://h,e/",
        "http://127.1/", "http://127.0.1/", "http://2130706433/",
        "http://0x7f000001/", "http://0x7f.0.0.1/", "http://127.0.0.0x1/",
        "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.256/",
        "http://127.0.0.1.1/", "http://1.2.3/", "http://a.1/", "http://0/",
        "http://127.0.0.1./", "http://x.0xff/", "http://x.0X/",
        "http://[/", "http://[]/", "http://]/", "http://[::1/",
        "http://::1/", "http://[::1]x/", "http://[::1]:/",
        "http://[::1%25lo]/", "http://[fe80::1%lo]/", "http://[127.0.0.1]/",
        "http://[h]/", "http://[::1].h/", "http://h[::1]/"
    };

    (void) state;

    for (i = 0; i < count(cases); i++) {
        if (parse(cases[i], &url, show, sizeof(show)) != LLM_ERROR) {
            fail_msg("taken: %s: %s", cases[i], show);
        }
    }

    /* a zero byte */

    assert_int_equal(llm_url_parse((unsigned char *) "http://h/\0x", 11, &url),
                     LLM_ERROR);
}


static void
test_long(void **state)
{
    char       text[LLM_URL_MAX + 16], show[8192];
    llm_url_t  url;

    (void) state;

    memset(text, 'x', sizeof(text));
    memcpy(text, "http://h/", 9);
    text[LLM_URL_MAX] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_OK);

    text[LLM_URL_MAX] = 'x';
    text[LLM_URL_MAX + 1] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_ERROR);

    /* a label, a name */

    memset(text, 'x', sizeof(text));
    memcpy(text, "http://", 7);
    text[7 + 63] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_OK);

    text[7 + 63] = 'x';
    text[7 + 64] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_ERROR);

    text[7 + 63] = text[7 + 127] = text[7 + 191] = '.';
    text[7 + 64] = 'x';
    text[7 + LLM_URL_HOST] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_OK);

    text[7 + LLM_URL_HOST] = 'x';
    text[7 + LLM_URL_HOST + 1] = '\0';
    assert_int_equal(parse(text, &url, show, sizeof(show)), LLM_ERROR);
}


static const struct {
    const char  *entry;
    const char  *url;
    int          rc;
} entries[] = {
    { "example.com", "https://example.com/x", LLM_OK },
    { "example.com", "https://EXAMPLE.com:443", LLM_OK },
    { "Example.Com", "https://example.com", LLM_OK },
    { "example.com", "http://example.com", LLM_DECLINED },
    { "example.com", "http://example.com:443", LLM_DECLINED },
    { "example.com", "https://example.com:8443", LLM_DECLINED },
    { "example.com", "https://a.example.com", LLM_DECLINED },
    { "example.com", "https://xexample.com", LLM_DECLINED },
    { "example.com", "https://example.com.evil.org", LLM_DECLINED },
    { "example.com", "https://example.co", LLM_DECLINED },
    { "example.com:8443", "https://example.com:8443/", LLM_OK },
    { "example.com:8443", "https://example.com/", LLM_DECLINED },
    { "*.example.com", "https://a.example.com/", LLM_OK },
    { "*.example.com", "https://a.b.Example.com/", LLM_OK },
    { "*.example.com", "https://example.com/", LLM_DECLINED },
    { "*.example.com", "https://aexample.com/", LLM_DECLINED },
    { "*.example.com", "https://abcexample.com/", LLM_DECLINED },
    { "*.example.com", "http://a.example.com/", LLM_DECLINED },
    { "*.example.com:1", "https://a.example.com:1/", LLM_OK },
    { "http://example.com", "http://example.com/", LLM_OK },
    { "http://example.com", "https://example.com/", LLM_DECLINED },
    { "http://example.com:81", "http://example.com:81/", LLM_OK },
    { "https://example.com", "https://example.com/", LLM_OK },
    { "http://127.0.0.1:9000", "http://127.0.0.1:9000/a", LLM_OK },
    { "http://127.0.0.1:9000", "http://127.0.0.1:9001/a", LLM_DECLINED },
    { "http://127.0.0.1:9000", "http://127.0.0.2:9000/a", LLM_DECLINED },
    { "http://127.0.0.1:9000", "https://127.0.0.1:9000/a", LLM_DECLINED },
    { "http://127.0.0.1:9000", "http://localhost:9000/a", LLM_DECLINED },
    { "http://127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000/",
      LLM_DECLINED },
    { "http://127.0.0.1:80", "http://127.0.0.1/", LLM_OK },
    { "https://[::1]:9", "https://[0:0::0:1]:9/", LLM_OK },
    { "example.com", "https://8.8.8.8", LLM_DECLINED },
    { "http://127.0.0.1", "", LLM_ERROR },
    { "https://[::1]", "", LLM_ERROR },
    { "127.0.0.1:9", "", LLM_ERROR },
    { "127.0.0.1", "", LLM_ERROR },
    { "[::1]:9", "", LLM_ERROR },
    { "http://example.com/", "", LLM_ERROR },
    { "http://example.com/x", "", LLM_ERROR },
    { "http://*.example.com", "", LLM_ERROR },
    { "ftp://example.com", "", LLM_ERROR },
    { "example.com/x", "", LLM_ERROR },
    { "u@example.com", "", LLM_ERROR },
    { "example.com:0", "", LLM_ERROR },
    { "*", "", LLM_ERROR },
    { "*.", "", LLM_ERROR },
    { "*.*.com", "", LLM_ERROR },
    { "a*.com", "", LLM_ERROR },
    { "*.127.0.0.1", "", LLM_ERROR },
    { "*.[::1]", "", LLM_ERROR },
    { "example com", "", LLM_ERROR },
    { "", "", LLM_ERROR }
};


static void
test_allowed(void **state)
{
    int        rc;
    size_t     i;
    char       show[4096];
    llm_str_t  entry;
    llm_url_t  url;

    (void) state;

    for (i = 0; i < count(entries); i++) {
        entry.len = strlen(entries[i].entry);
        entry.data = malloc(entry.len ? entry.len : 1);
        memcpy(entry.data, entries[i].entry, entry.len);

        memset(&url, 0, sizeof(url));

        if (entries[i].rc == LLM_ERROR) {
            rc = llm_url_allowed(&entry, NULL);

        } else {
            /* parse() frees the text */
            assert_int_equal(llm_url_parse((unsigned char *) entries[i].url,
                                           strlen(entries[i].url), &url),
                             LLM_OK);
            assert_int_equal(llm_url_allowed(&entry, NULL), LLM_DECLINED);
            rc = llm_url_allowed(&entry, &url);
        }

        snprintf(show, sizeof(show), "%s: %s: %d", entries[i].entry,
                 entries[i].url, rc);

        if (rc != entries[i].rc) {
            fail_msg("%s", show);
        }

        free(entry.data);
    }
}


static void
test_public(void **state)
{
    size_t         i;
    llm_address_t  a;

    static const struct {
        const char  *text;
        int          public;
    } cases[] = {
        { "8.8.8.8", 1 }, { "1.1.1.1", 1 }, { "93.184.216.34", 1 },
        { "0.0.0.0", 0 }, { "0.255.255.255", 0 }, { "1.0.0.0", 1 },
        { "9.255.255.255", 1 }, { "10.0.0.0", 0 }, { "10.255.255.255", 0 },
        { "11.0.0.0", 1 }, { "100.63.255.255", 1 }, { "100.64.0.0", 0 },
        { "100.127.255.255", 0 }, { "100.128.0.0", 1 },
        { "126.255.255.255", 1 }, { "127.0.0.0", 0 }, { "127.0.0.1", 0 },
        { "127.255.255.255", 0 }, { "128.0.0.0", 1 },
        { "169.253.255.255", 1 }, { "169.254.0.0", 0 },
        { "169.254.169.254", 0 }, { "169.255.0.0", 1 },
        { "172.15.255.255", 1 }, { "172.16.0.0", 0 },
        { "172.31.255.255", 0 }, { "172.32.0.0", 1 }, { "192.0.0.0", 0 },
        { "192.0.0.255", 0 }, { "192.0.1.0", 1 }, { "192.0.2.1", 0 },
        { "192.0.3.0", 1 }, { "192.88.99.1", 0 }, { "192.167.255.255", 1 },
        { "192.168.0.0", 0 }, { "192.168.255.255", 0 }, { "192.169.0.0", 1 },
        { "198.17.255.255", 1 }, { "198.18.0.0", 0 }, { "198.19.255.255", 0 },
        { "198.20.0.0", 1 }, { "198.51.100.1", 0 }, { "203.0.113.1", 0 },
        { "203.0.114.1", 1 }, { "223.255.255.255", 1 }, { "224.0.0.1", 0 },
        { "239.255.255.255", 0 }, { "240.0.0.0", 0 },
        { "255.255.255.255", 0 },

        { "::", 0 }, { "::1", 0 }, { "::2", 0 }, { "::8.8.8.8", 0 },
        { "::ffff:8.8.8.8", 1 }, { "::ffff:10.0.0.1", 0 },
        { "::ffff:127.0.0.1", 0 }, { "::ffff:a9fe:a9fe", 0 },
        { "::ffff:0:8.8.8.8", 0 }, { "64:ff9b::8.8.8.8", 1 },
        { "64:ff9b::10.0.0.1", 0 }, { "64:ff9b::7f00:1", 0 },
        { "64:ff9b:1::8.8.8.8", 0 }, { "100::1", 0 }, { "fc00::1", 0 },
        { "fd12:3456::1", 0 }, { "fe80::1", 0 }, { "fec0::1", 0 },
        { "ff02::1", 0 }, { "1fff::1", 0 }, { "2000::1", 1 },
        { "2001::1", 0 }, { "2001:1ff::1", 0 }, { "2001:200::1", 1 },
        { "2001:db7::1", 1 }, { "2001:db8::1", 0 }, { "2001:db9::1", 1 },
        { "2002:a00:1::1", 0 }, { "2002:808:808::1", 0 },
        { "2606:4700::1111", 1 }, { "2a00:1450:4001::200e", 1 },
        { "3ffe::1", 1 }, { "3fff::1", 0 }, { "3fff:fff::1", 0 },
        { "3fff:1000::1", 1 }, { "4000::1", 0 }
    };

    (void) state;

    for (i = 0; i < count(cases); i++) {
        assert_int_equal(llm_address_parse((unsigned char *) cases[i].text,
                                           strlen(cases[i].text), &a),
                         LLM_OK);

        if (llm_address_public(a.bytes, a.len) != cases[i].public) {
            fail_msg("%s", cases[i].text);
        }
    }

    assert_int_equal(llm_address_public(a.bytes, 0), 0);
}


/* texts drawn by lot, and those of addresses, are what the system says */

static void
test_address(void **state)
{
    int            rc, theirs;
    char           text[64];
    size_t         i, n, len;
    unsigned char  bytes[16], got[16];
    llm_address_t  a;

    static const char  letters[] = "::::...0123456789abcdefF1";

    (void) state;

    seed = 7;

    for (i = 0; i < 300000; i++) {
        n = any(3);

        if (n == 0) {
            len = any(20);

            for (n = 0; n < len; n++) {
                text[n] = letters[any(sizeof(letters) - 1)];
            }

            text[len] = '\0';

        } else {
            for (len = 0; len < 16; len++) {
                bytes[len] = any(3)
                             ? 0 : (unsigned char) any(256);
            }

            assert_non_null(inet_ntop(n == 1 ? AF_INET : AF_INET6, bytes, text,
                                      sizeof(text)));

            if (any(4) == 0) {
                text[any(strlen(text))]
                             = letters[any(sizeof(letters) - 1)];
            }
        }

        len = strlen(text);
        rc = llm_address_parse((unsigned char *) text, len, &a);
        theirs = inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, got);

        if ((rc == LLM_OK) != (theirs == 1)) {
            fail_msg("\"%s\": %d, not %d", text, rc, theirs);
        }

        if (rc == LLM_OK) {
            assert_int_equal(a.len, strchr(text, ':') ? 16 : 4);
            assert_memory_equal(a.bytes, got, a.len);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_public),
        cmocka_unit_test(test_address)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
