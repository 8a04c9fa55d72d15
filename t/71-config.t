#!/usr/bin/perl

# Wrong configurations: nginx -t refuses each with the file, the line and
# what was expected, and tells no secret.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

$t->write('tenants.json', '{"teams":{"team":{}},"keys":{}}');
$t->write('key', "sk-provider-secret\n");
$t->write('two-keys', "sk-provider-secret and another\n");
$t->write('empty', "");
$t->write('secret', 'hush-hush' x 4 . "\n");
$t->write('short', "hush-hush\n");
$t->token(FILE => $t->path('tenants.json'));

my %part = (
    zone     => 'llm_zone llm 1m;',
    redis    => 'llm_redis unix:%%DIR%%/redis.sock;',
    tenants  => 'llm_tenants %%DIR%%/tenants.json;',
    provider => 'llm_provider mock uri=/llm/mock/ key=file:%%DIR%%/key;',
    route    => 'llm_route * mock;',
    http     => '',
    server   => '',
    location => 'llm_gateway;',
    internal => 'internal;',
    pass     => 'proxy_pass http://127.0.0.1:1/v1/;',
    proxy    => 'proxy_ignore_client_abort on; proxy_buffering off; '
        . 'proxy_next_upstream off;',
);

sub config {
    my (%change) = @_;

    my %p = (%part, %change);

    return <<EOT;
%%GLOBALS%%
http {
    %%GLOBALS_HTTP%%
    $p{zone}
    $p{redis}
    $p{tenants}
    $p{provider}
    $p{route}
    $p{http}
    server {
        listen 127.0.0.1:%%PORT_TEST%%;
        location / { $p{location} }
        $p{server}
        location /llm/mock/ { $p{internal} $p{pass} $p{proxy} }
    }
}
EOT
}

my ($ok, $said) = $t->test_config(config());
ok $ok, 'the right one' or diag $said;

# [what is changed, what is to be said; the line it is on, undef: no line]

my $any = qr/./;

for my $bad (
    # llm_zone
    [ { zone => '' }, qr/"llm_gateway" needs "llm_zone"/, undef ],
    [ { zone => 'llm_zone llm;' }, qr/invalid number of arguments/ ],
    [ { zone => 'llm_zone llm 1;' }, qr/"1" .*expected at least 512k/ ],
    [ { zone => 'llm_zone llm 100k;' },
        qr/"100k" .*expected at least 512k/ ],
    [ { zone => 'llm_zone llm much;' },
        qr/"much" .*expected at least 512k/ ],
    [ { zone => 'llm_zone llm -1m;' }, qr/expected at least 512k/ ],
    [ { zone => 'llm_zone llm 1m; llm_zone llm 1m;' }, qr/is duplicate/ ],
    (map { [ { zone => "llm_zone llm 1m $_;" },
        qr/"\Q$_\E": expected a size of at least 1m, or 0/ ] }
        'cache=1', 'cache=1023k', 'cache=-1', 'cache=much', 'cache='),
    (map { [ { zone => "llm_zone llm 1m cache=0 $_;" },
        qr/"\Q$_\E": expected a size of at least 512k/ ] }
        'flights=0', 'flights=511k', 'flights=x'),
    [ { zone => 'llm_zone llm 1m states=1m;' },
        qr/"states=1m": expected cache=, flights=,/ ],

    # llm_redis
    [ { redis => 'llm_redis;' }, qr/invalid number of arguments/ ],
    [ { redis => 'llm_redis localhost;' },
        qr{invalid Redis URL: .*expected "redis://} ],
    [ { redis => 'llm_redis http://:hush-hush@localhost;' },
        qr{expected "redis://} ],
    [ { redis => 'llm_redis redis://:hush-hush@localhost:none;' },
        qr{expected "redis://} ],
    [ { redis => 'llm_redis redis://:hush-hush@localhost:70000;' },
        qr{expected "redis://} ],
    [ { redis => 'llm_redis redis://:hush-hush@localhost/x;' },
        qr{expected "redis://} ],
    [ { redis => 'llm_redis redis://:hush-hush@no.such.host.invalid;' },
        qr/host "no.such.host.invalid" .*not found/ ],
    [ { redis => 'llm_redis rediss://:hush-hush@localhost;' },
        qr{"rediss://" is not supported: use .*} ],
    [ { redis => 'llm_redis unix:;' }, qr{expected "redis://} ],
    [ { redis => 'llm_redis unix:/x timeout=soon;' },
        qr/"timeout=soon": expected .* 1ms to 10s/ ],
    [ { redis => 'llm_redis unix:/x timeout=0;' }, qr/expected .*1ms/ ],
    [ { redis => 'llm_redis unix:/x timeout=11s;' }, qr/expected .*10s/ ],
    [ { redis => 'llm_redis unix:/x patience=1s;' },
        qr/"patience=1s": expected timeout=, ahead=, gateways= or limits=/ ],
    [ { redis => 'llm_redis unix:/x limits=some;' },
        qr/"limits=some": expected exact, leased or off/ ],
    [ { redis => 'llm_redis unix:/x ahead=1ms;' },
        qr/"ahead=1ms": expected a time from 20ms to 60s/ ],
    [ { redis => 'llm_redis unix:/x gateways=0;' },
        qr/"gateways=0": expected a number from 1 to 1000/ ],
    [ { redis => 'llm_redis unix:/x gateways=-1;' }, qr/expected a number/ ],
    [ { redis => 'llm_redis off timeout=1s;' }, qr/takes no parameter/ ],
    [ { redis => 'llm_redis off; llm_redis off;' }, qr/is duplicate/ ],

    # llm_redis_cache
    [ { http => 'llm_redis_cache off;' },
        qr{invalid Redis URL: .*expected "redis://} ],
    [ { http => 'llm_redis_cache redis://:hush-hush@localhost:none;' },
        qr{expected "redis://} ],
    [ { http => 'llm_redis_cache unix:/x timeout=0;' },
        qr/"timeout=0": expected a time from 1ms to 10s/ ],
    [ { http => 'llm_redis_cache unix:/x limits=off;' },
        qr/"limits=off": expected timeout=/ ],
    [ { http => 'llm_redis_cache unix:/x; llm_redis_cache unix:/y;' },
        qr/is duplicate/ ],
    [ { server => 'llm_redis_cache unix:/x;' }, qr/not allowed here/ ],

    # llm_secret
    [ { http => 'llm_secret hush-hush;' },
        qr/llm_secret .*expected env:VARIABLE or file:PATH/ ],
    [ { http => 'llm_secret env:NO_SUCH_1;' },
        qr/llm_secret .*no environment variable "NO_SUCH_1"/ ],
    [ { http => 'llm_secret file:/no/file;' }, qr{"/no/file" failed} ],
    [ { http => 'llm_secret file:%%DIR%%/short;' },
        qr/llm_secret "1": expected at least 32 random bytes/ ],
    [ { http => 'llm_secret file:%%DIR%%/empty;' },
        qr/llm_secret "1": expected at least 32 random bytes/ ],
    (map { [ { http => "llm_secret file:%%DIR%%/secret $_;" },
        qr/key id "\S*": expected 1 to 16 of/ ] }
        'id=', 'id=' . 'a' x 17, 'id=a/b'),
    [ { http => 'llm_secret file:%%DIR%%/secret name=a;' },
        qr/"name=a": expected id=/ ],
    [ { http => 'llm_secret file:%%DIR%%/secret; '
        . 'llm_secret file:%%DIR%%/secret;' }, qr/"1" is there twice/ ],
    [ { http => 'llm_secret file:%%DIR%%/secret id=a; '
        . 'llm_secret file:%%DIR%%/secret id=a;' },
        qr/"a" is there twice/ ],

    # llm_tenants
    [ { tenants => '' }, qr/"llm_gateway" needs "llm_tenants"/, undef ],
    [ { tenants => 'llm_tenants %%DIR%%/none.json;' },
        qr{none\.json" failed \(2: No such file}, undef ],
    [ { tenants => 'llm_tenants %%DIR%%/key;' }, qr{/key": \S}, undef ],
    [ { tenants => 'llm_tenants %%DIR%%;' }, qr/expected a regular file/,
        undef ],
    [ { tenants => 'llm_tenants %%FILE%%; llm_tenants %%FILE%%;' },
        qr/is duplicate/ ],

    # llm_prices
    [ { tenants => 'llm_tenants %%FILE%%; llm_prices %%DIR%%/none.json;' },
        qr{none\.json" failed \(2: No such file}, undef ],
    [ { tenants => 'llm_tenants %%FILE%%; llm_prices %%FILE%%;' },
        qr{llm_prices "\S+": \S}, undef ],
    [ { tenants => 'llm_tenants %%FILE%%; llm_prices;' },
        qr/invalid number/ ],

    # llm_state
    [ { tenants => 'llm_tenants %%FILE%%; llm_state %%FILE%%;' },
        qr/\S/, undef ],
    [ { tenants => 'llm_tenants %%FILE%%; llm_state a; llm_state b;' },
        qr/is duplicate/ ],

    # llm_provider
    [ { provider => '', route => '' },
        qr/"llm_gateway" needs "llm_provider"/, undef ],
    [ { provider => 'llm_provider mock;' },
        qr/invalid number|has no uri=/ ],
    [ { provider => 'llm_provider mock key=file:%%DIR%%/key;' },
        qr/"mock" has no uri=/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock;' },
        qr/"uri=\/llm\/mock": expected .*slash at both ends/ ],
    [ { provider => 'llm_provider mock uri=llm/;' },
        qr/expected .*slash at both ends/ ],
    [ { provider => 'llm_provider m/k uri=/llm/mock/;' },
        qr/"m\/k": expected/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ speed=1;' },
        qr/"speed=1": expected uri=, args=, .*, on_leave= or include_usage=/ ],
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ $_;" },
        qr/"\Q$_\E": expected a number from 1 to 1000000/ ] }
        'concurrency=0', 'concurrency=-1', 'concurrency=1.5',
        'concurrency=many', 'concurrency=1000001', 'concurrency='),
    [ { provider => 'llm_provider mock uri=/llm/mock/ include_usage=no;' },
        qr/"include_usage=no": expected/ ],
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ $_;" },
        qr/"\Q$_\E": expected a rate like 600r\/m or 10r\/s/ ] }
        'rate=', 'rate=0r/m', 'rate=600', 'rate=r/m', 'rate=r/s', 'rate=1r/h',
        'rate=-1r/m', 'rate=1.5r/s', 'rate=1000000001r/m',
        'rate=16666667r/s'),
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ $_;" },
        qr/"\Q$_\E": expected a number of tokens a minute/ ] }
        'tokens=', 'tokens=0', 'tokens=k', 'tokens=90kk', 'tokens=1g',
        'tokens=-1', 'tokens=1001m', 'tokens=99999999999999999999m'),
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ $_=yes;" },
        qr/"$_=yes": expected on or off/ ] } 'adaptive', 'pace', 'window'),
    [ { provider => 'llm_provider mock uri=/llm/mock/ on_leave=stay;' },
        qr/"on_leave=stay": expected cancel or drain/ ],
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ $_;" },
        qr/"\Q$_\E": expected a number from 0 to 1000/ ] }
        'margin=', 'margin=-1', 'margin=1001'),
    [ { provider => 'llm_provider mock uri=/llm/mock/ args=;' },
        qr/"args=": expected a query without its question mark/ ],
    (map { [ { provider => "llm_provider mock uri=/llm/mock/ 'args=$_';" },
        qr/"args=\Q$_\E": expected a query without its question mark/ ] }
        '?a=1', 'a=1 2', 'a#b', "a=\xc3\xa4"),
    (map { [ { provider => "llm_provider mock 'uri=$_';" },
        qr/"uri=\Q$_\E": expected braces at most once, as a segment/ ] }
        '/{model}/', '/llm/mock/m-{model}/', '/llm/mock/{model}x/',
        '/llm/mock/{model}/{model}/', '/llm/mock/{modle}/', '/llm/mock/{/',
        '/llm/mock/{model}/}/'),
    [ { provider => 'llm_provider mock uri=/llm/mock/{model}/;' },
        qr/not terminated by ";"/ ],
    [ { provider => "llm_provider mock 'uri=/llm/other/{model}/';" },
        qr/"\/llm\/other\/" needs an internal location/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ key=;' },
        qr/"key=": expected env:VARIABLE or file:PATH/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ key=sk-provider-x;' },
        qr/expected env:VARIABLE or file:PATH/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ key=env:;' },
        qr/expected env:VARIABLE or file:PATH/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ key=env:NO_SUCH_1;' },
        qr/no environment variable "NO_SUCH_1"/ ],
    [ { provider => 'llm_provider mock uri=/llm/mock/ key=file:/no/file;' },
        qr{"/no/file" failed} ],
    [ { provider =>
        'llm_provider mock uri=/llm/mock/ key=file:%%DIR%%/two-keys;' },
        qr/expected printable ASCII without spaces/ ],
    [ { provider => "$part{provider} $part{provider}" },
        qr/"mock" is defined already/ ],
    [ { provider => join ' ', $part{provider},
        map { "llm_provider p$_ uri=/llm/mock/;" } 1 .. 32 },
        qr/more than 32 providers/ ],

    # llm_route
    [ { route => '' }, qr/"llm_gateway" needs "llm_route"/, undef ],
    [ { route => 'llm_route *;' }, qr/invalid number of arguments/ ],
    [ { route => 'llm_route * other;' }, qr/no provider "other"/ ],
    [ { provider => $part{route}, route => $part{provider} },
        qr/no provider "mock" above/ ],
    [ { route => 'llm_route * mock:;' },
        qr/"mock:": expected a model/ ],
    [ { route => q{llm_route * 'mock:a"b';} }, qr/without quotes/ ],
    [ { route => 'llm_route * mock:' . 'a' x 124 . ';' },
        qr/"mock:a+": expected at most 128 bytes/ ],
    [ { route => 'llm_route a* mock; llm_route a* mock;' },
        qr/a route for "a\*" already/ ],

    [ { route => 'llm_route * ' . 'mock ' x 17 . ';' },
        qr/the route for "\*" has more than 16 targets/ ],
    (map { [ { route => "llm_route * mock $_ choose=weight;" },
        qr/"\Q$_\E": expected a weight from 1 to 1000/ ] }
        'mock@0', 'mock@1001', 'mock@', 'mock@x', 'mock@-1', 'mock:x@0',
        'mock:x@1001', 'mock:x@', 'mock:x@20240620@2000'),
    (map { [ { route => "llm_route * mock mock:x\@3 $_;" },
        qr/the weight of "mock:x" needs "choose=weight" or "choose=least"/ ] }
        '', 'choose=order', 'choose=fastest'),
    [ { route => 'llm_route * mock choose=best;' },
        qr/"choose=best": expected order, weight, least or fastest/ ],
    (map { [ { route => "llm_route * mock mock:x windows=$_;" },
        qr/"windows=\Q$_\E": expected one number for each of the 2 targets/ ] }
        '1k', '1k,2k,3k', '0'),
    (map { [ { route => "llm_route * mock mock:x windows=$_;" },
        qr/"windows=\Q$_\E": expected numbers of tokens/ ] }
        '1k,', ',1k', '1k,,2k', '1k,2g', '-1,1k', '1k,1001m', 'k,k'),
    [ { route => 'llm_route * mock windows=;' },
        qr/"windows=": expected a number of tokens for each target/ ],

    [ { route => 'llm_route * ttl=1m;' }, qr/has no target/ ],
    [ { route => 'llm_route * mock time=1m;' },
        qr/"time=1m": expected choose=, windows=, ttl= or batch=/ ],
    [ { route => 'llm_route * mock ttl=1m mock;' },
        qr/"mock": expected choose=, windows=, ttl= or batch=/ ],
    (map { [ { route => "llm_route * mock $_;" },
        qr/"\Q$_\E": expected a time up to 365d, or 0/ ] }
        'ttl=', 'ttl=-1', 'ttl=long', 'ttl=366d'),
    [ { route => 'llm_route * ttl=1m mock;' }, qr/has no target/ ],

    # llm_gateway
    [ { location => 'llm_gateway on;' }, qr/invalid number of arguments/ ],
    [ { location => 'llm_gateway; llm_gateway;' }, qr/is duplicate/ ],
    [ { http => 'llm_gateway;' }, qr/not allowed here/ ],

    # llm_cache
    [ { location => 'llm_gateway; llm_cache maybe;' },
        qr/"maybe": expected on or off/ ],
    [ { location => 'llm_gateway; llm_cache on ttl=0;' },
        qr/"ttl=0": expected a time from 1s/ ],
    [ { location => 'llm_gateway; llm_cache on ttl=long;' },
        qr/"ttl=long": expected a time/ ],
    [ { location => 'llm_gateway; llm_cache on max_size=2m;' },
        qr/"max_size=2m": expected a size from 1k to 1m/ ],
    [ { location => 'llm_gateway; llm_cache on temperature=hot;' },
        qr/"temperature=hot": expected any or zero/ ],
    [ { location => 'llm_gateway; llm_cache on size=1k;' },
        qr/"size=1k": expected ttl=, .*_revalidate=/ ],
    (map { [ { location => "llm_gateway; llm_cache on $_;" },
        qr/"\Q$_\E": expected a size from 1k to 1m, or 0/ ] }
        'memory=1', 'memory=1025k', 'memory=all'),
    (map { [ { location => "llm_gateway; llm_cache on namespace=$_;" },
        qr/"\S+": expected 1 to 64 letters/ ] }
        '', 'a/b', 'a:b', '\303\244', 'a' x 65),
    [ { location => 'llm_gateway; llm_cache on encrypt=yes;',
        http => 'llm_secret file:%%DIR%%/secret;' },
        qr/"encrypt=yes": expected on or off/ ],
    [ { location => 'llm_gateway; llm_cache on encrypt=on;' },
        qr/"llm_cache encrypt=on" needs "llm_secret"/ ],
    (map { [ { location => "llm_gateway; llm_cache on $_;" },
        qr/"\Q$_\E": expected a time up to 30d, or 0/ ] }
        'stale_if_error=31d', 'stale_if_error=-1', 'stale_if_error=',
        'stale_while_revalidate=31d', 'stale_while_revalidate=x'),
    [ { location => 'llm_gateway; llm_cache off ttl=1h;' },
        qr/takes no parameter/ ],
    [ { location => 'llm_gateway; llm_cache on; llm_cache off;' },
        qr/is duplicate/ ],

    # llm_cache_bypass
    [ { location => 'llm_gateway; llm_cache_bypass;' },
        qr/invalid number of arguments/ ],
    [ { location => 'llm_gateway; llm_cache_bypass store stores;' },
        qr/"stores": expected store, background, previous, hosted_tools, / ],
    [ { location => 'llm_gateway; llm_cache_bypass none store;' },
        qr/"none": expected .*, or none alone/ ],
    [ { location => 'llm_gateway; llm_cache_bypass store none;' },
        qr/"none": expected .*, or none alone/ ],
    [ { location => 'llm_gateway; llm_cache_bypass none; '
        . 'llm_cache_bypass n;' }, qr/is duplicate/ ],

    # llm_join
    [ { location => 'llm_gateway; llm_join maybe;' },
        qr/"maybe": expected on or off/ ],
    [ { location => 'llm_gateway; llm_join off linger=1s;' },
        qr/takes no parameter/ ],
    [ { location => 'llm_gateway; llm_join on; llm_join off;' },
        qr/is duplicate/ ],
    [ { location => 'llm_gateway; llm_join on linger=61s;' },
        qr/"linger=61s": expected a time up to 60s, or 0/ ],
    [ { location => 'llm_gateway; llm_join on resume=61m;' },
        qr/"resume=61m": expected a time up to 1h, or 0/ ],
    [ { location => 'llm_gateway; llm_join on log=63k;' },
        qr/"log=63k": expected a size from 64k to 16m/ ],
    [ { location => 'llm_gateway; llm_join on log=17m;' },
        qr/"log=17m": expected a size/ ],
    [ { location => 'llm_gateway; llm_join on followers=0;' },
        qr/"followers=0": expected a number from 1 to 100000/ ],
    [ { location => 'llm_gateway; llm_join on followers=100001;' },
        qr/expected a number from 1 to 100000/ ],
    [ { location => 'llm_gateway; llm_join on leaders=1;' },
        qr/"leaders=1": expected linger=, resume=, log= or followers=/ ],

    # llm_retry
    [ { location => 'llm_gateway; llm_retry tries=0;' },
        qr/"tries=0": expected a number from 1 to 20/ ],
    [ { location => 'llm_gateway; llm_retry tries=21;' },
        qr/expected a number from 1 to 20/ ],
    [ { location => 'llm_gateway; llm_retry tries=;' },
        qr/"tries=": expected a number/ ],
    [ { location => 'llm_gateway; llm_retry base=fast;' },
        qr/"base=fast": expected a time/ ],
    [ { location => 'llm_gateway; llm_retry cap=-1s;' },
        qr/"cap=-1s": expected a time/ ],
    [ { location => 'llm_gateway; llm_retry max_wait=2h;' },
        qr/"max_wait=2h": expected a time from 1ms to 1h/ ],
    [ { location => 'llm_gateway; llm_retry often;' }, qr/"often"/ ],
    [ { location => 'llm_gateway; llm_retry tries=1; llm_retry tries=2;' },
        qr/is duplicate/ ],

    (map { [ { location => "llm_gateway; llm_retry $_;" },
        qr/"\Q$_\E": expected a percentage from 0 to 100/ ] }
        'budget=', 'budget=-1', 'budget=101', 'budget=20%'),
    (map { [ { location => "llm_gateway; llm_retry $_;" },
        qr/"\Q$_\E": expected a number from 0 to 1000/ ] }
        'floor=', 'floor=-1', 'floor=1001', 'floor=1.5'),
    [ { location => 'llm_gateway; llm_retry budget=1; llm_retry floor=2;' },
        qr/is duplicate/ ],

    # llm_retry_wait
    [ { location => 'llm_gateway; llm_retry_wait 429;' },
        qr/invalid number of arguments/ ],
    (map { [ { location => "llm_gateway; llm_retry_wait 500 1s $_ 1s;" },
        qr/"\Q$_\E": expected 408, 409, 429 or a status from 500 to 599/ ] }
        '400', '499', '600', '5xx', '0503', '-503'),
    (map { [ { location => "llm_gateway; llm_retry_wait 500 1s 429 $_;" },
        qr/expected a time from 1ms to 60s behind status "429"/ ] }
        '', '0', '61s', 'soon', '503'),
    [ { location => 'llm_gateway; llm_retry_wait 429 1s 500 1s 429 2s;' },
        qr/status "429" is there twice/ ],
    [ { location => 'llm_gateway; llm_retry_wait 429 1s; '
        . 'llm_retry_wait 500 1s;' }, qr/is duplicate/ ],

    # llm_breaker
    [ { location => 'llm_gateway; llm_breaker;' },
        qr/invalid number of arguments/ ],
    [ { location => 'llm_gateway; llm_breaker on;' },
        qr/"on": expected consecutive=, ratio=, .*, eject= or max_eject=/ ],
    [ { location => 'llm_gateway; llm_breaker off min=5;' },
        qr/takes no parameter/ ],
    [ { location => 'llm_gateway; llm_breaker off; llm_breaker min=5;' },
        qr/is duplicate/ ],
    [ { location => 'llm_gateway; llm_breaker eject=1s; llm_breaker off;' },
        qr/is duplicate/ ],
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a number from 0 to 1000/ ] }
        'consecutive=', 'consecutive=-1', 'consecutive=1001'),
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a percentage from 0 to 100/ ] }
        'ratio=101', 'ratio=0.5'),
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a number from 1 to 10000/ ] }
        'min=0', 'min=10001'),
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a time from 100ms to 10m/ ] }
        'window=99ms', 'window=11m', 'window='),
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a time from 1ms to 1h/ ] }
        'eject=0', 'eject=61m'),
    (map { [ { location => "llm_gateway; llm_breaker $_;" },
        qr/"\Q$_\E": expected a time from 1ms to 24h/ ] }
        'max_eject=0', 'max_eject=25h'),
    [ { location => 'llm_gateway; llm_breaker eject=2s max_eject=1s;' },
        qr/max_eject, 1000ms, is less than eject, 2000ms/ ],
    [ { location => 'llm_gateway; llm_breaker eject=10m;' },
        qr/max_eject, 300000ms, is less than eject, 600000ms/ ],
    [ { location => 'llm_gateway; llm_breaker max_eject=2s;',
        http => 'llm_breaker eject=3s;' },
        qr/max_eject, 2000ms, is less than eject, 3000ms/ ],

    # llm_heartbeat
    [ { location => 'llm_gateway; llm_heartbeat;' },
        qr/invalid number of arguments/ ],
    (map { [ { location => "llm_gateway; llm_heartbeat $_;" },
        qr/"\Q$_\E": expected off or a time from 1ms to 10m/ ] }
        'on', '0', '11m', '-1s', 'grace=1s'),
    (map { [ { location => "llm_gateway; llm_heartbeat 15s $_;" },
        qr/"\Q$_\E": expected a time up to 10m, or 0/ ] }
        'grace=', 'grace=11m', 'grace=x'),
    [ { location => 'llm_gateway; llm_heartbeat 15s 10s;' },
        qr/"10s": expected grace=/ ],
    [ { location => 'llm_gateway; llm_heartbeat off grace=1s;' },
        qr/takes no parameter/ ],
    [ { location => 'llm_gateway; llm_heartbeat 1s; llm_heartbeat off;' },
        qr/is duplicate/ ],

    # llm_timeout
    [ { location => 'llm_gateway; llm_timeout total=0;' },
        qr/"total=0": expected a time from 1ms to 24h/ ],
    [ { location => 'llm_gateway; llm_timeout total=25h;' },
        qr/expected a time from 1ms to 24h/ ],
    [ { location => 'llm_gateway; llm_timeout first_byte=x;' },
        qr/"first_byte=x": expected a time/ ],
    (map { [ { location => "llm_gateway; llm_timeout $_;" },
        qr/"\Q$_\E": expected a time from 1ms to 24h/ ] }
        'between=', 'between=0', 'between=25h'),
    [ { location => 'llm_gateway; llm_timeout between=1s; '
        . 'llm_timeout drain=2s;' }, qr/is duplicate/ ],
    [ { location => 'llm_gateway; llm_timeout drain=2h;' },
        qr/"drain=2h": expected a time up to 1h, or 0/ ],
    [ { location => 'llm_gateway; llm_timeout 5s;' }, qr/"5s"/ ],
    [ { location => 'llm_gateway; llm_timeout total=1s; '
        . 'llm_timeout total=2s;' }, qr/is duplicate/ ],

    # llm_metrics, llm_health
    [ { server => 'location /m { llm_metrics; llm_metrics; }' },
        qr/is duplicate/ ],
    [ { server => 'location /m { llm_health; llm_metrics; }' },
        qr/is duplicate/ ],

    # the provider's location: the line of llm_provider is told
    [ { internal => '' }, qr/"\/llm\/mock\/" needs an internal location/ ],
    [ { pass => '' }, qr/needs an internal location with proxy_pass/ ],
    [ { provider => 'llm_provider mock uri=/llm/other/;' },
        qr/"\/llm\/other\/" needs an internal location/ ],
    [ { proxy => $part{proxy} =~ s/_abort on/_abort off/r },
        qr/needs "proxy_ignore_client_abort on"/ ],
    [ { proxy => $part{proxy} =~ s/proxy_ignore\S+ on;//r },
        qr/needs "proxy_ignore_client_abort on"/ ],
    [ { proxy => $part{proxy} =~ s/buffering off/buffering on/r },
        qr/needs "proxy_buffering off"/ ],
    [ { proxy => $part{proxy} =~ s/upstream off/upstream error/r },
        qr/needs "proxy_next_upstream off"/ ],
    [ { proxy => $part{proxy} =~ s/proxy_next_upstream off;//r },
        qr/needs "proxy_next_upstream off"/ ],
    [ { proxy => "$part{proxy} proxy_intercept_errors on;" },
        qr/needs "proxy_intercept_errors off"/ ],
) {
    my ($change, $expected, @no_line) = @$bad;

    my $name = join ' ', map { length $change->{$_} > 70
        ? substr($change->{$_}, 0, 70) . '...'
        : $change->{$_} || "no $_" } sort keys %$change;

    ($ok, $said) = $t->test_config(config(%$change));

    ok !$ok, "refused: $name";
    like $said, qr/\[emerg\]/, 'as an error';
    like $said, $expected, 'it is said why';
    like $said, qr{/test\.conf:\d+}, 'and where' if !@no_line;
    unlike $said, qr/hush-hush|sk-provider/, 'but no secret';
    is +(() = $said =~ /\[(?:emerg|alert|crit)\]/g), 1, 'in one line';
}

# the right line

($ok, $said) = $t->test_config(config(route => "\n\n    llm_route * no;"));
my @lines = split /^/, $t->read('test.conf');
my ($line) = grep { $lines[$_ - 1] =~ /llm_route/ } 1 .. @lines;
like $said, qr{/test\.conf:$line\b}, 'the line is the right one';


# what is right although it looks strange

for my $good (
    { redis => '' },
    { redis => 'llm_redis off;' },
    { redis => 'llm_redis redis://user:hush-hush@127.0.0.1:6379/3;' },
    { redis => 'llm_redis unix:/x?db=2 timeout=10ms;' },
    { provider => 'llm_provider mock uri=/llm/mock/;' },
    { provider => 'llm_provider mock uri=/llm/mock/ key=env:HOME;' },
    { provider => 'llm_provider mock uri=/llm/mock/ key=file:key;' },
    { provider => 'llm_provider mock uri=/llm/mock/ '
        . 'key=file:%%DIR%%/empty;' },
    { provider => 'llm_provider mock uri=/llm/mock/ rate=16666666r/s '
        . 'tokens=1000m margin=1000 adaptive=on pace=on window=on '
        . 'on_leave=drain include_usage=off '
        . q{'args=api-version=2024-10-21&$top=1';} },
    { provider => 'llm_provider mock uri=/llm/mock/ rate=1r/m tokens=1 '
        . 'margin=0 adaptive=off pace=off window=off on_leave=cancel '
        . 'include_usage=on concurrency=1000000;' },
    { provider => "llm_provider mock 'uri=/llm/mock/{model}/';" },
    { provider => "llm_provider mock 'uri=/llm/mock/openai/{model}/a/b/';" },
    { route => 'llm_route a mock; llm_route a* mock; llm_route * mock:x:y '
        . 'mock;' },
    { route => 'llm_route * mock@1 mock:x@1000 mock:a=b@2 mock:c@20240620@5 '
        . 'mock:d@20240620 mock:e@v1 mock:f@2:g choose=weight '
        . 'windows=1,0,1k,128K,1m,1M,1000m ttl=0;' },
    { route => 'llm_route * mock:' . 'a' x 123 . '@999 mock '
        . 'choose=weight;' },
    { route => 'llm_route a mock@7 choose=least; llm_route b mock '
        . 'choose=fastest; llm_route * mock choose=order;' },
    { route => 'llm_route * ' . 'mock ' x 16 . 'windows='
        . join(',', (1) x 16) . ';' },
    { location => 'llm_gateway; llm_cache on ttl=1s max_size=1k '
        . 'temperature=zero; llm_retry tries=20 base=1ms cap=10m max_wait=1h;'
        . 'llm_timeout total=24h first_byte=1ms drain=0;' },
    { location => 'llm_gateway; llm_retry budget=0 floor=0; '
        . 'llm_retry_wait 408 1ms 409 2s 429 60s 500 1s 599 1s; '
        . 'llm_breaker consecutive=0 ratio=100 min=1 window=100ms eject=1h '
        . 'max_eject=24h; llm_heartbeat 10m grace=0; '
        . 'llm_timeout between=24h;' },
    { location => 'llm_gateway; llm_breaker off; llm_heartbeat off; '
        . 'llm_retry budget=100 floor=1000;', http => 'llm_breaker '
        . 'consecutive=1000 ratio=0 min=10000 window=10m; '
        . 'llm_heartbeat 1ms grace=10m; llm_retry_wait 503 1s;' },
    # on again, and what is wrong further out is mended
    { location => 'llm_gateway; llm_breaker max_eject=20m;',
        server => 'llm_breaker off;', http => 'llm_breaker eject=10m;' },
    { location => 'llm_gateway; llm_breaker max_eject=20m;',
        http => 'llm_breaker eject=10m;' },
    { zone => 'llm_zone llm 512k;' },
    { zone => 'llm_zone llm 1m flights=512k cache=1m;' },
    { zone => 'llm_zone llm 1m cache=0;' },
    { http => 'llm_redis_cache unix:/x timeout=10s;' },
    { redis => 'llm_redis_cache unix:/x;' },
    { http => 'llm_secret file:%%DIR%%/secret;',
        location => 'llm_gateway; llm_cache on;' },
    # in any order
    { location => 'llm_gateway; llm_cache on encrypt=on;',
        tenants => 'llm_tenants %%DIR%%/tenants.json; '
        . 'llm_secret file:%%DIR%%/secret id=new; '
        . 'llm_secret file:secret id=old;' },
    { route => 'llm_route * mock ttl=5m; llm_route a mock mock:x ttl=0;' },
    { location => 'llm_gateway; llm_cache on memory=0 encrypt=off '
        . 'namespace=Az_09.- stale_if_error=30d stale_while_revalidate=0;' },
    { location => 'llm_gateway; llm_cache on memory=1m;' },
    { location => 'llm_gateway; llm_cache_bypass none;' },
    { location => 'llm_gateway; llm_cache_bypass store background previous '
        . 'hosted_tools url n tools temperature;' },
    { location => 'llm_gateway; llm_join off;' },
    { location => 'llm_gateway; llm_join on linger=0 resume=1h log=16m '
        . 'followers=100000;', http => 'llm_join on linger=60s;' },
    { location => '' },
    # a server without a gateway needs nothing
    { http => 'server { listen 127.0.0.1:%%PORT_TEST%%; server_name b; }' },
    # providers of a location within another one
    { internal => 'internal; location /llm/mock/x { return 404; }' },
) {
    ($ok, $said) = $t->test_config(config(%$good));
    ok $ok, 'accepted: ' . join ' ', %$good or diag $said;
}


# each server with a gateway needs the providers

sub second {
    my ($location) = @_;

    return 'server { listen 127.0.0.1:%%PORT_TEST%%; server_name b;
        location / { llm_gateway; } ' . "$location }";
}

($ok, $said) = $t->test_config(config(http => second('')));
ok !$ok, 'a second server without the location is refused';
like $said, qr/"mock" in .*test\.conf:\d+: .*needs an internal location/,
    'and why';

($ok, $said) = $t->test_config(config(http => second(
    "location /llm/ { internal; $part{pass} $part{proxy} }")));
ok $ok, 'a location with a shorter prefix does' or diag $said;


# a reload with a broken configuration

$t->key('user');
my $mock = $t->gateway(redis => 0,
    http => q{log_format keys '[$llm_authorization][$llm_provider_key]';
        llm_breaker off;},
    server => 'access_log %%DIR%%/keys.log keys;
        location /llm/dead/ { proxy_pass http://127.0.0.1:%%PORT_DEAD%%;
            internal; ' . $part{proxy} . '}',
    location => 'llm_breaker min=1 eject=1h max_eject=1h;',
    routes => 'llm_provider bare uri=/llm/mock/; llm_route bare bare;
        llm_provider dead uri=/llm/dead/; llm_route both dead mock;
        llm_route * mock:renamed@2 choose=weight;',
    proxy => $part{proxy} . ' proxy_set_header x-a $llm_authorization; '
        . 'proxy_set_header x-k "[$llm_provider_key]";');
my @workers = $t->workers;
is $t->chat('x')->status, 200, 'a gateway';

my ($sent) = reverse $mock->journal;
is $sent->{headers}{'x-a'}, 'Bearer sk-provider-secret', 'the key, for Bearer';
is $sent->{headers}{'x-k'}, '[sk-provider-secret]', 'and bare';
like $sent->{body}, qr{"model":\s*"renamed"}, 'a weight is no part of the name';

is $t->chat('x', model => 'bare')->status, 200, 'a provider without a key';
($sent) = reverse $mock->journal;
is $sent->{headers}{'x-a'}, undef, 'has none';
is $sent->{headers}{'x-k'}, '[]', 'nor the other one\'s';

is $t->chat('x', model => 'both')->header('x-llm-attempts'), 2, 'a dead one';
is $t->chat('x', model => 'both')->header('x-llm-attempts'), 1,
    'parameters turn a breaker on that was off further out';

ok $t->until(sub { -s $t->path('keys.log') }), 'there is a log';
unlike $t->read('keys.log'), qr/[^][\s-]/, 'without keys';

my $good = $t->read('nginx.conf');
for my $wrong ('llm_route x nobody;', 'llm_zone llm much;', 'llm_nonsense;') {
    my $seen = length $t->log;
    $t->write('nginx.conf', $good =~ s/(?=llm_route \*)/$wrong /r);
    kill HUP => $t->master;
    ok $t->until(sub { substr($t->log, $seen) =~ /\[emerg\]/ }),
        "a reload with $wrong is refused";
    is "@{[$t->workers]}", "@workers", 'the old workers stay';
    is $t->chat('x')->status, 200, 'and serve';
}

$t->allow(qr/\[emerg\].*in \S+nginx\.conf:\d+/);

$t->write('nginx.conf', $good);
my %old = map { $_ => 1 } @workers;
$t->reload;
ok !(grep { $old{$_} } $t->workers), 'a right one is taken';
is $t->chat('x')->status, 200, 'and serves';

done_testing;
