#!/usr/bin/perl

# Stored responses stay with their provider and their owner: whoever names one
# is sent to where it is, on any worker and gateway, whatever the routes say by
# now; to anybody else there is none.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use Time::HiRes qw(time);

use Test::LLM;


my $secret = 'responses ' x 8;
my $orders = { both => 'mock two', turned => 'two mock', two => 'two',
    mock => 'mock', renamed => 'two:gpt-4.1' };

# $t and $u share a Redis and a secret, $w has none of both

my ($t, $u, $w) = map { Test::LLM->new(workers => $_) } 2, 1, 2;
my $redis = $t->redis;
my ($one, $two) = ($t->mock, $t->mock);
my %mock = (mock => $one, two => $two);
my %key = (mock => 'sk-provider-secret', two => 'sk-provider-two');
my (@rest, $r, $id);

gateway($_) for $t, $u, $w;

for my $g ($t, $u) {
    ok $g->until(sub { $g->get('/readyz')->body =~ /"redis":"up"/ }),
        'Redis is there' or diag $g->get('/readyz')->body;
}


# an answer's id, then all that can be asked of it

for my $g ($t, $w) {
    my $name = $g == $t ? 'with Redis' : 'without';

    for my $case ([both => 'mock'], [turned => 'two'], [renamed => 'two']) {
        my ($model, $where) = @$case;
        my $at = "$name, $model";

        $r = create($g, $model);
        is $r->header('x-llm-provider'), $where, "$at: made at $where";
        $id = $r->json->{id};

        $r = ask($g, GET => $id);
        is $r->status, 200, "$at: found";
        is $r->json->{id}, $id, "$at: the same one";
        is $r->header('x-llm-provider'), $where, "$at: there";

        $r = ask($g, GET => "$id/input_items?limit=1&order=asc");
        is $r->json->{object}, 'list', "$at: its items";
        is last_of($where)->{path},
            "/v1/responses/$id/input_items?limit=1&order=asc",
            "$at: the query, too";
        is last_of($where)->{headers}{authorization}, "Bearer $key{$where}",
            "$at: with the key of that provider";

        $r = ask($g, POST => "$id/cancel");
        is $r->json->{status}, 'cancelled', "$at: cancelled";
        is last_of($where)->{method}, 'POST', "$at: by a POST";
        is last_of($where)->{headers}{'content-length'}, 0,
            "$at: without a body";

        for my $to (qw(both turned)) {
            $r = create($g, $to, previous_response_id => $id);
            is $r->status, 200, "$at: goes on as $to";
            is $r->header('x-llm-provider'), $where, "$at: there";
        }

        $r = ask($g, DELETE => $id);
        is $r->status, 200, "$at: deleted";
        ok $r->json->{deleted}, "$at: as the provider says";

        my $calls = calls();
        unknown(ask($g, GET => $id), "$at: and then");
        not_found(create($g, 'both', previous_response_id => $id),
            "$at: and then");
        is calls(), $calls, "$at: no provider was asked";
    }
}


# of a stream

for my $end ('completed', 'failed', 'cut') {
    $_->script($end eq 'failed' ? { error_event => 3 }
        : $end eq 'cut' ? { cut => 'close', cut_events => 3 } : ())
        for $one, $two;

    $r = create($t, 'turned', stream => \1);
    is $r->status, 200, "stream, $end";
    ($id) = $r->body =~ /"id":"(resp_\w+)"/;
    $_->script for $one, $two;

    $r = ask($t, GET => $id);
    is $r->status, 200, "stream, $end: found";
    is $r->header('x-llm-provider'), 'two', "stream, $end: there";
}

$r = ask($t, GET => "$id?stream=true");
like $r->header('content-type'), qr/event-stream/, 'once more as a stream';
like $r->body, qr/"sequence_number":0.*response\.completed/s, 'all of it';
$r = ask($t, GET => "$id?stream=true&starting_after=4");
is $r->status, 200, 'from the middle';
is +($r->body =~ /"sequence_number":(\d+)/)[0], 5, 'from there';
like $r->body, qr/response\.completed.*\n\n\z/s, 'to its end';
is last_of('two')->{path}, "/v1/responses/$id?stream=true&starting_after=4",
    'as it was asked for';
ok $r->complete, 'whole';


# an answer that is too large to be held

$_->script({ content_bytes => 1_200_000 }) for $one, $two;
$r = create($t, 'turned');
is length $r->json->{output}[0]{content}[0]{text}, 1_200_000, 'a large one';
$id = $r->json->{id};
$_->script for $one, $two;
is ask($t, GET => $id)->header('x-llm-provider'), 'two', 'large: found';


# what is not to be stored is not remembered

my $keys = stored();
$id = create($t, 'both', store => \0)->json->{id};
unknown(ask($t, GET => $id), 'store: false');
is stored(), $keys, 'store: false: nothing in Redis';
$id = create($t, 'both', store => \1)->json->{id};
is ask($t, GET => $id)->status, 200, 'store: true';
ok $t->until(sub { stored() > $keys }), 'store: true: in Redis';
$r = $t->chat('no response', model => 'both', body => { store => \1 });
is stored(), $keys + 1, 'nor is a chat';


# one that failed by right is no failure of the provider's

$one->script({ match => { method => 'GET' }, body => {
    id => $id, object => 'response', status => 'failed',
    error => { code => 'server_error', message => 'It went wrong.' } } });
$r = ask($t, GET => $id);
is $r->status, 200, 'one that failed';
is $r->json->{status}, 'failed', 'as it is';
is $one->stats->{requests}, 1, 'asked for once';


# owners: a team's keys, but nobody else's

$r = ask($t, GET => $id, key => 'colleague');
is $r->status, 200, 'a colleague has it, too';
is create($t, 'both', previous_response_id => $id, key => 'colleague')
    ->status, 200, 'and may go on';

my $calls = calls();
for my $key ('stranger', 'lone', 'apart') {
    unknown(ask($t, $_ => $id, key => $key), "$key: $_")
        for 'GET', 'DELETE';
    unknown(ask($t, POST => "$id/cancel", key => $key), "$key: cancel");
    unknown(ask($t, GET => "$id/input_items", key => $key), "$key: items");
    not_found(create($t, 'both', previous_response_id => $id,
        key => $key), $key);
    not_found(create($t, 'both', previous_response_id => $id, key => $key,
        stream => \1), "$key: stream");
}
is calls(), $calls, 'no provider heard of it';
is ask($t, GET => $id)->status, 200, 'and it is still there';

my $own = create($t, 'both', key => 'apart')->json->{id};
is ask($t, GET => $own, key => 'apart')->status, 200,
    'a key that shares nothing has its own';
unknown(ask($t, GET => $own), 'and its team does not');
is ask($t, GET => $id, key => undef)->status, 401, 'nobody at all';


# what is none

for my $none ('resp_none', 'resp_mock0000000000000000', 'x' x 300, '%2e%2e%2f',
    'a%00b', 'a%0ab')
{
    $r = ask($t, GET => $none);
    cmp_ok $r->status, '>=', 400, substr("none: $none", 0, 40);
    cmp_ok $r->status, '<', 405, 'as a client hears it';
    not_found(create($t, 'both', previous_response_id => $none),
        substr "none: $none", 0, 40);
}
is create($t, 'both', previous_response_id => undef)->status, 200, 'null';
is create($t, 'both', previous_response_id => 7)->status, 400, 'a number';

for my $case ([PUT => $id, 405, 'GET, DELETE'], [POST => $id, 405,
    'GET, DELETE'], [GET => "$id/cancel", 405, 'POST'], [DELETE =>
    "$id/input_items", 405, 'GET'], [GET => "$id/x", 404], [GET => '', 404],
    [GET => "$id/input_items/x", 404], [GET => '/cancel', 404])
{
    my ($method, $path, $status, $allow) = @$case;
    $r = ask($t, $method => $path);
    is $r->status, $status, "$method " . $path =~ s/$id/ID/r;
    is $r->header('allow'), $allow // '', 'allowed' if $allow;
}


# a route that does not have the provider

$id = create($t, 'two')->json->{id};
$calls = calls();
$r = create($t, 'mock', previous_response_id => $id);
not_found($r, 'a model of another provider', qr/does not serve this model/);
is calls(), $calls, 'which is not asked';


# its provider is ill: nobody else is asked

$id = create($t, 'turned')->json->{id};
$_->script({ match => { path => '/responses' }, status => 503 },
    { match => { method => 'GET' }, times => 1, status => 503 },
    { match => { method => 'DELETE' }, times => 2, status => 503 })
    for $two, $one;
$r = create($t, 'both', previous_response_id => $id);
is $r->status, 503, 'ill: a call has its error';
is $two->stats->{requests}, 2, 'ill: tried again there';
is $one->stats->{requests}, 0, 'ill: and not elsewhere';
$r = ask($t, GET => $id);
is $r->status, 200, 'ill: a GET is tried again';
is $two->stats->{requests}, 4, 'ill: once';
$r = ask($t, DELETE => $id);
is $r->status, 503, 'ill: a DELETE is not';
is $two->stats->{requests}, 5, 'ill: as it was sent';
is ask($t, GET => $id)->status, 200, 'ill: and nothing is forgotten';
$two->script;

$two->refuse;
$r = ask($t, GET => $id);
is $r->status, 503, 'gone: an error';
is $one->stats->{requests}, 0, 'gone: nobody else is asked';
$r = ask($t, DELETE => $id);
is $r->status, 503, 'gone: a DELETE, too';
is $r->header('x-llm-attempts'), 2, 'gone: as it was not sent, tried again';
$two->serve;
is ask($t, DELETE => $id)->status, 200, 'back: done';
unknown(ask($t, GET => $id), 'back: and then');
$two->script;
$one->script;


# each takes one request and no tokens

$id = create($t, 'both', key => 'counted')->json->{id};
my @before = left(ask($t, GET => $id, key => 'counted'));
my @after = left(ask($t, GET => $id, key => 'counted'));
is $before[0] - $after[0], 1, 'one request';
cmp_ok $after[1], '>=', $before[1], 'no tokens';
@before = @after;
@after = left(ask($t, GET => "$id?stream=true", key => 'counted'));
is $before[0] - $after[0], 1, 'stream: one request';
@after = left(ask($t, GET => $id, key => 'counted'));
cmp_ok $after[1], '>=', $before[1], 'stream: no tokens';
$r = ask($t, GET => $id, key => 'counted') for 1 .. 10;
is $r->status, 429, 'until there are none';
$calls = calls();
is ask($t, DELETE => $id, key => 'counted')->status, 429, 'for all of it';
is calls(), $calls, 'then nobody is asked';
$t->all_back('after all that');


# the other worker, the other gateway, another order of the route

for my $g ($t, $w) {
    my $name = $g == $t ? 'with Redis' : 'without';
    my ($a, $b) = $g->workers;

    $r = on($g, $a, POST => '', body => { model => 'turned', input => 'a' });
    is $r->header('x-llm-provider'), 'two', "$name: made by one worker";
    $id = $r->json->{id};
    is on($g, $_, GET => $id)->header('x-llm-provider'), 'two',
        "$name: found by each" for $a, $b;
    is on($g, $b, POST => '', body => { model => 'both', input => 'b',
        previous_response_id => $id })->header('x-llm-provider'), 'two',
        "$name: the other goes on there";

    my %turned = (%$orders, turned => 'mock two');
    $g->token(ROUTES => routes(\%turned));
    $g->reload($g->{template});
    is create($g, 'turned')->header('x-llm-provider'), 'mock',
        "$name: turned round by a reload";
    is ask($g, GET => $id)->header('x-llm-provider'), 'two',
        "$name: it stays where it is";
    is create($g, 'turned', previous_response_id => $id)
        ->header('x-llm-provider'), 'two', "$name: and what follows";
    $g->token(ROUTES => routes($orders));
    $g->reload($g->{template});

    push @rest, $id;
}

$id = $rest[0];
is create($u, 'both', previous_response_id => $id)->header('x-llm-provider'),
    'two', 'another gateway goes on there';
is ask($u, GET => $id)->header('x-llm-provider'), 'two', 'and finds it';
unknown(ask($u, GET => $id, key => 'stranger'), 'but not for a stranger');
unknown(ask($w, GET => $id), 'one of another Redis does not');


# Who has an id may ask the other gateway at once: on one processor with both
# of them he is often there before the first one is done with its turn.

if (my ($processor) = qx(taskset -pc $$ 2>/dev/null) =~ /: (\d+)/) {
    my $missed = 0;

    alone($processor, $t->workers, $u->workers, $$);

    for (1 .. 300) {
        $id = create($t, 'both')->json->{id};
        $missed++ if ask($u, GET => $id)->status == 404;
    }

    # of one that Redis was too late to take, the log says so

    my $said = () = $t->log =~ /is known to this gateway alone/g;

    cmp_ok $missed, '<=', $said, 'another gateway knows it at once';
    note "$said were known to one alone";
    alone('0-1023', $t->workers, $u->workers, $$);
}


# what is in Redis: no ids, no names, for 30 days

my @keys = grep { /:r2:/ } @{$redis->command(KEYS => '*')};
cmp_ok scalar @keys, '>', 10, 'they are in Redis';
is scalar(grep { !/^\{llm\}:r2:[0-9a-f]{64}$/ } @keys), 0, 'under digests';
my $all = join ' ', @keys, map { $redis->command(GET => $_) } @keys;
ok $all !~ /resp|two|mock|gpt|team|$id/, 'which tell nothing';
is scalar(grep { my $ttl = $redis->command(TTL => $_);
    $ttl > 30 * 86400 || $ttl < 30 * 86400 - 600 } @keys), 0, 'for 30 days';

my $gone = create($t, 'turned')->json->{id};
ok $t->until(sub { ask($u, GET => $gone)->status == 200 }), 'at both';
is ask($u, DELETE => $gone)->status, 200, 'deleted at one';
$r = ask($t, GET => $gone);
is $r->status, 404, 'the other asks the provider, which has it no more';


# moved by hand, or damaged: not opened

my ($first, $key) = made('mock');
my ($second, $other_key) = made('two');
my $good = $redis->command(GET => $key);
$redis->command(SET => $key, $redis->command(GET => $other_key));
unknown(ask($u, GET => $first), 'moved');
$redis->command(SET => $key, substr $good, 0, 20);
unknown(ask($u, GET => $first), 'cut');
$redis->command(SET => $key, $good);
is ask($u, GET => $first)->header('x-llm-provider'), 'mock', 'as it was';


# a restart: Redis knows

$id = $rest[0];
$t->kill_all;
$t->start;
ok $t->until(sub { $t->get('/readyz')->body =~ /"redis":"up"/ }), 'anew';
is ask($t, GET => $id)->header('x-llm-provider'), 'two', 'anew: found';
is create($t, 'both', previous_response_id => $id)->header('x-llm-provider'),
    'two', 'anew: goes on there';
$w->kill_all;
$w->start;
unknown(ask($w, GET => $rest[1]), 'without Redis it is forgotten');


# Redis is down: what is in memory, and for the rest no guess

my $known = create($t, 'turned')->json->{id};
my $other = elsewhere();

for my $ill ('dead', 'silent') {
    $ill eq 'dead' ? $redis->stop('KILL') : $redis->pause;
    is ask($t, GET => $known)->header('x-llm-provider'), 'two',
        "$ill: what is in memory is found";

    $calls = calls();
    for ([GET => $other], [DELETE => $other], [POST => '']) {
        my ($method, $path) = @$_;
        my $start = time;
        $r = ask($t, $method => $path, $path ? () : (body => { input => 'a',
            model => 'both', previous_response_id => $other }));
        is $r->status, 503, "$ill: $method: the rest is 503";
        is $r->header('retry-after'), 1, "$ill: $method: for a second";
        is $r->json->{error}{code}, 'store_unavailable', "$ill: its code";
        cmp_ok time - $start, '<', 2, "$ill: soon";
    }
    is calls(), $calls, "$ill: no provider was asked";

    $id = create($t, 'turned')->json->{id};
    is ask($t, GET => $id)->status, 200, "$ill: a new one is in memory";

    $ill eq 'dead' ? $redis->start : $redis->resume;
    my $status = $ill eq 'dead' ? 404 : 200;
    ok $t->until(sub { ask($t, GET => $other)->status == $status }, 15),
        "$ill: and then it says what it knows";
    $known = create($t, 'turned')->json->{id};
    $other = elsewhere();
}


# a client that leaves while Redis is silent

$redis->pause;
$r = start($t, GET => $other);
Test::LLM::HTTP->idle(0.05);
$r->abort;
$r = start($t, POST => '', body => { model => 'both', input => 'a',
    previous_response_id => $other });
Test::LLM::HTTP->idle(0.05);
$r->abort;
$redis->resume;
ok $t->until(sub { ask($t, GET => $other)->status == 200 }, 15),
    'who leaves leaves nothing';
$t->all_back('in the end');

done_testing;


sub gateway {
    my ($g) = @_;

    my %limits = (requests_per_minute => 100_000, concurrency => 50);

    $g->key($_, %limits) for 'user', 'colleague';
    $g->key('stranger', %limits, team => 'others');
    $g->key('lone', %limits);
    $g->key('apart', %limits, cache => { scope => 'key' });
    $g->key('counted', %limits, requests_per_minute => 12,
        tokens_per_minute => 100_000);
    delete $g->{tenants}{keys}{lone}{team};
    $g->key('last', %limits);

    $g->token(MOCK => $t->token('MOCK'));
    $g->token(MOCK2 => $t->token('MOCK2'));
    $g->token(REDIS => $g == $w ? 'off' : $redis->url . ' timeout=500ms');
    $g->write('two.key', "$key{two}\n");
    $g->write('fleet.secret', "$secret\n");

    $g->gateway(routes => routes($orders), server => '%%BOTH%%
        location /llm/two/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
        location => 'llm_cache on; llm_retry tries=2 base=20ms;
            llm_breaker off;',
        http => $g == $w ? '' : 'llm_secret file:%%DIR%%/fleet.secret id=a;');
}


sub routes {
    my ($routes) = @_;

    return join "\n", 'llm_provider two uri=/llm/two/'
        . ' key=file:%%DIR%%/two.key;',
        map { "llm_route $_ $routes->{$_};" } sort keys %$routes;
}


sub create {
    my ($g, $model, %body) = @_;

    my $key = delete $body{key} // 'user';

    return ask($g, POST => '', key => $key, body => { model => $model,
        input => 'Hello', %body });
}


sub start {
    my ($g, $method, $path, %spec) = @_;

    $path = "/$path" if $path ne '' || $method ne 'POST';
    $spec{key} = 'user' if !exists $spec{key};

    return Test::LLM::HTTP->start(%{$g->spec($method,
        "/v1/responses$path", %spec)});
}


sub ask {
    my $r = start(@_);
    $r->wait;
    return $r;
}


# at a worker

sub on {
    my ($g, $pid, $method, $path, %spec) = @_;

    my $c;
    my $port = $g->port('PORT_BOTH');

    $g->until(sub {
        $c = $g->get('/healthz', port => $port);
        return $c->header('x-pid') eq $pid;
    }, 20);

    $path = "/$path" if $path ne '';

    $r = $c->again(%{$g->spec($method, "/v1/responses$path", key => 'user',
        port => $port, %spec)});
    $r->wait;

    is $r->header('x-pid'), $pid, 'at that worker';

    return $r;
}


sub unknown {
    my ($r, $what) = @_;

    is $r->status, 404, "$what: 404";
    like $r->json->{error}{message}, qr/^Response with id '.*' not found\.$/,
        "$what: as OpenAI says it";
}


sub not_found {
    my ($r, $what, $message) = @_;

    my $error = $r->json->{error};

    is $r->status, 400, "$what: 400";
    is "$error->{type} $error->{param} $error->{code}", 'invalid_request_error'
        . ' previous_response_id previous_response_not_found',
        "$what: as OpenAI says it";
    like $error->{message}, $message
        // qr/^Previous response with id '.*' not found\.$/s,
        "$what: in its words";
}


# one that the other gateway has made, and told Redis of

sub elsewhere {
    my $id;

    $u->until(sub {
        $id = create($u, 'turned')->json->{id};
        return $u->until(sub { $redis->command(EXISTS => key($id)) }, 0.5);
    }, 15);

    return $id;
}


# an id, and its key in Redis

# only on these processors

sub alone {
    my ($processors, @pids) = @_;
    system("taskset -pc $processors $_ >/dev/null 2>&1") for @pids;
}


sub made {
    my ($model) = @_;

    my $id = create($t, $model)->json->{id};

    ok $t->until(sub { $redis->command(EXISTS => key($id)) }),
        "$model: in Redis";

    return ($id, key($id));
}


# where an id lies: HMAC by a key that HKDF made of the secret

sub key {
    my ($id) = @_;

    return '{llm}:r2:' . hmac_sha256_hex("response$id",
        hmac_sha256("ngx-llm name\x01", hmac_sha256($secret, "\0" x 32)));
}


sub calls { $one->stats->{requests} + $two->stats->{requests} }

sub last_of { ($mock{$_[0]}->journal)[-1] }

sub stored {
    return scalar grep { /:r2:/ } @{$redis->command(KEYS => '*')};
}

sub left {
    my ($r) = @_;
    return map { $r->header("x-ratelimit-remaining-$_") } qw(requests tokens);
}
