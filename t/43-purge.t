#!/usr/bin/perl

# Purging the cache: the admin endpoint and who may use it, what each purge is
# about, a fleet, a Redis that is away, and what outlives a restart.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);

use Test::LLM;


my $secret = 'sk-admin-' . sha256_hex('admin');
my $hash = '{llm}:gen';
my $url = '/admin/v1/cache/purge';

my ($x, $y) = map { Test::LLM->new(workers => 2) } 1, 2;

$x->key('user');
$x->key('colleague');
$x->key('stranger', team => 'other');
$x->key('alone', cache => { scope => 'key' });
$x->key('world', cache => { scope => 'global' });

my $redis = $x->redis;
my $mock = $x->mock;

gateway($_, $redis->url . ' timeout=500ms') for $x, $y;


# who may

for my $case (
    ['no secret', []],
    ['another', [Authorization => 'Bearer sk-admin-0']],
    ['a part of it', [Authorization => 'Bearer ' . substr $secret, 0, -1]],
    ['more than it', [Authorization => "Bearer ${secret}0"]],
    ['none', [Authorization => 'Bearer ']],
    ['not as a bearer', [Authorization => "Basic $secret"]],
    ['without a scheme', [Authorization => $secret]],
    ["a client's header", ['api-key' => $secret]],
    ["a client's key", [Authorization => 'Bearer ' . $x->secret('user')]],
) {
    my ($name, $headers) = @$case;

    my $r = admin($x, '{"all": true}', headers => $headers);
    is error($r), '401 invalid_request_error invalid_api_key -', $name;
}

is error(admin($x, '', headers => [], path => '/admin/v1/nothing')),
    '401 invalid_request_error invalid_api_key -',
    'what is there nobody else learns';
is gen('v'), undef, 'nothing was purged';

is admin($x, '{"team": "nobody"}', headers => [Authorization =>
    "bearer   $secret"])->status, 200, 'the secret, as HTTP allows it';


# what is there

is error(admin($x, '{}', path => '/admin/v1/nothing')),
    '404 invalid_request_error unknown_url -', 'another URL';
is error(admin($x, '{}', path => "$url/")),
    '404 invalid_request_error unknown_url -', 'a longer one';

my $r = admin($x, undef, method => 'GET');
is error($r), '405 invalid_request_error method_not_supported -', 'GET';
is $r->header('allow'), 'POST', 'POST is allowed';

is $x->post($url, '{}', key => 'user')->status, 404, 'not for clients';


# what it understands

my $big = '{"team": "' . 'x' x 70000 . '"}';

for my $case (
    ['', 'invalid_json -'],
    ['{', 'invalid_json -'],
    ['[]', 'invalid_json -'],
    ['"all"', 'invalid_json -'],
    ["{\"team\": \"\xff\"}", 'invalid_json -'],
    ['{"team": "a\u0000b"}', 'invalid_json -'],
    ['[' x 3000, 'invalid_json -'],
    ['{"all": true, "all": true}', 'duplicate_key -'],
    ['{}', 'missing_required_parameter -'],
    ['{"all": true, "team": "x"}', 'invalid_value -'],
    ['{"everything": true}', 'unknown_parameter -'],
    ['{"a\"\n\u20ac": true}', 'unknown_parameter -'],
    ['{"' . "\xe2\x82\xac" x 40 . '": true}', 'unknown_parameter -'],
    ['{"all": false}', 'invalid_value all'],
    ['{"all": "true"}', 'invalid_value all'],
    ['{"all": null}', 'invalid_value all'],
    ['{"team": ""}', 'invalid_value team'],
    ['{"team": 1}', 'invalid_value team'],
    ['{"team": "' . 'x' x 257 . '"}', 'invalid_value team'],
    ['{"key": {}}', 'invalid_value key'],
    ['{"model": ["x"]}', 'invalid_value model'],
    ['{"namespace": true}', 'invalid_value namespace'],
    ['{"digest": ""}', 'invalid_value digest'],
    ['{"digest": "' . '0' x 63 . '"}', 'invalid_value digest'],
    ['{"digest": "' . '0' x 65 . '"}', 'invalid_value digest'],
    ['{"digest": "' . '0' x 63 . 'g"}', 'invalid_value digest'],
) {
    my ($body, $expected) = @$case;

    is error(admin($x, $body)), "400 invalid_request_error $expected",
        substr $body, 0, 40;
}

is error(admin($x, $big)), '413 invalid_request_error request_too_large -',
    'too much';

my $length = sprintf '%x', length $big;
is error(admin($x, undef, raw => join("\r\n", "POST $url HTTP/1.1", 'Host: x',
    "Authorization: Bearer $secret", 'Transfer-Encoding: chunked', '',
    $length, $big, '0', '', ''))),
    '413 invalid_request_error request_too_large -', 'too much, in chunks';

my $last = 0;

for my $case (
    ['{"team": "x"}', 'team', 'x'],
    ['{"key": "x"}', 'key', 'x'],
    ['{"model": "a:b"}', 'model', 'a:b'],
    ['{"namespace": "' . 'n' x 256 . '"}', 'namespace', 'n' x 256],
    ['{"team": "a\"b\\\\c\n\u20ac"}', 'team', "a\"b\\c\n\x{20ac}"],
    [' { "all" : true } ', 'all', undef],
) {
    my ($body, $class, $name) = @$case;

    $r = admin($x, $body);
    is $r->status, 200, $class;

    my $json = $r->json;
    my $generation = delete $json->{generation};

    is_deeply $json, { purged => { class => $class, name => $name },
        fleet => JSON::PP::true }, 'the answer';
    is $r->header('content-type'), 'application/json', 'is JSON';
    cmp_ok $generation, '>', $last, 'greater than the one before';
    is gen('v'), $generation, 'and known to Redis';
    $last = $generation;
}

is join(' ', sort @{$redis->command(HKEYS => $hash)}), 'all: e v',
    'after a purge of all no name is needed';

my ($s, $us) = @{$redis->command('TIME')};
my $now = $s * 1_000_000 + $us;
cmp_ok $last, '<=', $now, 'it is a time of Redis';

$now += 1_000_000_000;
$redis->command(HSET => $hash, 'v', $now);
is admin($x, '{"team": "x"}')->json->{generation}, $now + 1,
    'and greater than the last one whatever the clock says';

# a Redis that forgets what was purged

for my $case (
    ['nothing is left', sub { $redis->command(DEL => $hash) }],
    ['others began anew', sub {
        $redis->command(HSET => $hash, 'e', 1, 'v', gen('v') + 1) }],
    ['it is an older copy', sub {
        $redis->command(HSET => $hash, 'v', 1);
        $redis->command(HDEL => $hash, 'all:') }],
) {
    my ($name, $forget) = @$case;

    admin($x, '{"team": "x"}');
    ok settled(), 'both know the same';
    my $old = gen('v');
    $forget->();
    ok $x->until(sub { (gen('all:') // 0) > $old }),
        "$name: all is purged instead";
}

ok settled(), 'and that is that';


# what it is about

my @all = ((map { [$_, 'gpt-4o'] } qw(user stranger alone world)),
    ['user', 'gpt-4.1']);

sub entries {
    my ($t) = @_;
    return join ' ', map { cached($t, @$_) } @all;
}

my $hits = 'hit hit hit hit hit';

for my $case (
    ['{"team": "team"}', 'miss hit hit hit miss'],
    ['{"key": "alone"}', 'hit hit miss hit hit'],
    ['{"model": "gpt-4.1"}', 'hit hit hit hit miss'],
    ['{"model": "gpt-4o"}', 'miss miss miss miss hit'],
    ['{"all": true}', 'miss miss miss miss miss'],
    ['{"team": "nobody"}', $hits],
    ['{"key": "user"}', $hits],
    ['{"key": "team"}', $hits],
    ['{"model": "gpt-4"}', $hits],
    ['{"namespace": "default"}', $hits],
) {
    my ($body, $expected) = @$case;

    entries($x);
    is entries($x), $hits, 'stored';
    is entries($y), $hits, 'for the other gateway, too';

    my $generation = admin($x, $body)->json->{generation};
    is entries($x), $expected, "purged by $body";

    ok knows($y, $generation), 'the other gateway hears of it';
    is entries($y), $hits, 'and finds what was stored since';
}

is cached($x, 'colleague', 'gpt-4o'), 'hit', "a team's entries are shared";
admin($y, '{"team": "team"}');
ok $x->until(sub { cached($x, 'user', 'gpt-4o') eq 'miss' }),
    'a purge at the other gateway counts here';


# what was asked before a purge is not served after it

$mock->script({ times => 1, delay_ms => 400 });
my $slow = $x->start_chat('slow');
$mock->wait(in_flight => 1);
admin($x, '{"team": "team"}');
$slow->wait;
is $slow->status, 200, 'a request under way is answered';
is cached($x, 'user', 'gpt-4o', 'slow'), 'miss',
    'but its answer is one from before';


# one answer

ok settled(), 'both know the same';
cached($x, 'user', 'one');

my $key;

is cached($x, 'user', 'two'), 'miss', 'an answer';
ok $x->until(sub { ($key) = grep { $redis->command(GET => $_) =~ /"two"/ }
    answers(); $key }), 'in Redis';
is cached($x, 'user', 'two'), 'hit', 'is a hit';
is cached($y, 'user', 'two'), 'hit', 'at both gateways';

my ($digest) = $key =~ /([0-9a-f]{64})$/;

is_deeply admin($x, { digest => uc $digest })->json, { purged => {
    class => 'digest', name => $digest }, generation => 0,
    fleet => JSON::PP::true }, 'is purged';

is $redis->command(EXISTS => $key), 0, 'gone from Redis';
is cached($x, 'user', 'two'), 'miss', 'and from here';
is cached($x, 'user', 'one'), 'hit', 'others stay';

admin($x, { digest => $digest });
ok $y->until(sub { cached($y, 'user', 'two') eq 'miss' }),
    'the other gateway forgets it';


# a Redis that is away

cached($x, 'user', 'gpt-4o');
$redis->pause;
$r = admin($x, '{"team": "other"}');
is error($r), '503 server_error redis_unavailable -', 'Redis is silent';
is $r->header('retry-after'), 1, 'it can be tried again';
$redis->resume;

ok $x->until(sub { gen('team:other') }), 'it is told again';
ok knows($y, gen('team:other')), 'so that the fleet learns of it';

$redis->stop('KILL');
ok $x->until(sub { admin($x, '{"all": true}')->status == 503 }),
    'Redis is down';
$redis->start;
ok $x->until(sub { gen('all:') }), 'it is told again';

my $old = gen('v');
ok $x->until(sub { admin($x, '{"all": true}')->status == 200 }),
    'Redis is back';
cmp_ok gen('v'), '>', $old, 'and counts on';

$redis->command(DEL => $hash);
$redis->command(SET => $hash, 'something else');
is error(admin($x, '{"all": true}')),
    '503 server_error redis_unavailable -', 'something is in the way';
$redis->command(DEL => $hash);
ok $x->until(sub { gen('all:') }), 'until it is not';


# what outlives what

cached($x, 'user', 'gpt-4o', 'kept');
my $generation = admin($x, '{"team": "team"}')->json->{generation};
is cached($x, 'user', 'gpt-4o', 'kept'), 'miss', 'purged';
$redis->command(DEL => answers());

$x->reload;
is cached($x, 'user', 'gpt-4o', 'new'), 'miss', 'a reload';
$x->kill_worker;
ok $x->until(sub { cached($x, 'user', 'gpt-4o', 'new') eq 'hit' }),
    'and a dead worker keep the generation';

# before the fleet's generations are read, what lies in Redis is not trusted

$_->quit for $x, $y;
$redis->command(DEL => $hash);
$x->start;
$x->until(sub { $x->get('/readyz')->body =~ /"redis":"up"/ });
cached($x, 'user', 'gpt-4o', 'first') for 1 .. 2;
ok $x->until(sub { cached($x, 'user', 'gpt-4o', 'first') eq 'hit' }),
    'stored when nothing was purged yet';
admin($x, '{"team": "team"}');
$x->quit;
$x->start;
is cached($x, 'user', 'gpt-4o', 'first'), 'miss',
    'a gateway that starts serves nothing that was purged';


# names are bounded

admin($x, '{"all": true}');
$redis->command(HSET => $hash, map { ("team:t$_", 1) } 1 .. 1022);
is admin($x, '{"team": "last"}')->json->{purged}{class}, 'team',
    'there is room for 1024 names';
is $redis->command(HLEN => $hash), 1024 + 2, 'beside version and epoch';
is admin($x, '{"team": "last"}')->json->{purged}{class}, 'team',
    'which can be purged again';
$r = admin($x, '{"team": "one more"}');
is_deeply $r->json->{purged}, { class => 'all', name => undef },
    'one more purges all';
is $redis->command(HLEN => $hash), 3, 'and makes room';
is cached($x, 'user', 'gpt-4o', 'first'), 'miss', 'really all';


# without a fleet

my $t = Test::LLM->new(workers => 2);

$t->{tenants} = $x->{tenants};
$t->write('tenants.json', $t->{tenants});
gateway($t, 'off', env => 1);

$last = 0;

for my $body ('{"team": "a"}', '{"team": "b"}', '{"all": true}',
    '{"team": "a"}')
{
    my $json = admin($t, $body)->json;
    ok !$json->{fleet}, 'no fleet';
    cmp_ok $json->{generation}, '>', $last, 'a generation nevertheless';
    $last = $json->{generation};
}

is admin($t, { digest => $digest })->status, 200, 'one answer';

for my $n (1 .. 1030) {
    my $json = admin($t, { team => "t$n" })->json;
    cmp_ok $json->{generation}, '>', $last, 'always greater'
        if $json->{generation} <= $last || $n == 1030;
    $last = $json->{generation};
}

like $t->log, qr/no room for one more purged name/, 'names are bounded here';

$t->reload;
cmp_ok admin($t, '{"all": true}')->json->{generation}, '>', $last,
    'a reload goes on counting';


# nobody's eyes

for my $each ($x, $y, $t) {
    my $said = $each->log . $each->access_log;
    unlike $said, qr/\Q$secret\E/, 'the secret is in no log';
    unlike $said, qr/\Q@{[sha256_hex($secret)]}\E/, 'nor its hash';
}

like $x->log, qr/\[notice\] .*the cache is purged: team "team"/,
    'a purge is in the log';

done_testing;


sub gateway {
    my ($t, $url, %options) = @_;

    $t->{tenants} = $x->{tenants};
    $t->write('tenants.json', $t->{tenants});
    $t->write('admin.secret', "$secret\n");
    $t->token(REDIS => $url);
    $t->token(MOCK => $x->token('MOCK'));

    local $ENV{TEST_ADMIN_SECRET} = $secret;
    my $source = $options{env} ? 'env:TEST_ADMIN_SECRET'
        : 'file:%%DIR%%/admin.secret';

    $t->gateway(location => 'llm_cache on; llm_retry tries=1;',
        admin => "location /admin/v1/ { llm_admin $source; }");
}


sub admin {
    my ($t, $body, %spec) = @_;

    my $path = delete $spec{path} // $url;

    $r = Test::LLM::HTTP->start(%{$t->spec(POST => $path,
        port => $t->port('PORT_ADMIN'), body => $body,
        headers => [Authorization => "Bearer $secret"], %spec)});
    $r->wait;

    return $r;
}


sub error {
    my ($r) = @_;

    my $e = eval { $r->json->{error} } // {};
    diag $r->status . ': ' . ($r->body // '') if !$e->{message};

    return join ' ', $r->status, map { $_ // '-' } @$e{qw(type code param)};
}


# a field of the fleet's generations

sub gen {
    my ($field) = @_;
    return $redis->command(HGET => $hash, $field);
}


# the last purge that a gateway knows of

sub last_of {
    my ($t) = @_;

    return $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body
        =~ /^llm_cache_generation (\d+)$/m ? $1 : 0;
}


sub knows {
    my ($t, $generation) = @_;
    return $t->until(sub { last_of($t) >= $generation });
}


sub settled {
    return $x->until(sub { last_of($x) == gen('v')
        && last_of($y) == gen('v') });
}


# "hit" or "miss"

sub cached {
    my ($t, $key, $model, $text) = @_;

    my $r = $t->chat($text // 'Hello', key => $key, model => $model);
    my $status = $r->header('cache-status') // '';

    return $r->status != 200 ? $r->status
        : $status =~ /hit/ ? 'hit' : $status =~ /miss/ ? 'miss' : $status;
}


sub answers {
    return grep { /[0-9a-f]{64}$/ } @{$redis->command(KEYS => '*')};
}
