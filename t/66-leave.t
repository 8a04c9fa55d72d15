#!/usr/bin/perl

# A client that leaves: its call is ended at once, or, at a provider with
# on_leave=drain, goes on to its end, is charged in full and stored.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('single', team => 'single', concurrency => 1);

my $mock = $t->gateway(
    redis => 0,
    provider => 'on_leave=drain',
    routes => 'llm_provider other uri=/llm/mock/
                   key=file:%%DIR%%/provider.key;
               llm_route cancel-* other; llm_route * mock;',
    location => 'llm_retry tries=3 base=5ms cap=10ms; llm_breaker off;',
    http => <<'EOT',
    server {
        listen 127.0.0.1:%%PORT_CACHE%%;
        location / { llm_gateway; llm_cache on; llm_heartbeat 50ms grace=0; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
    server {
        listen 127.0.0.1:%%PORT_H2%% http2;
        location / { llm_gateway; llm_cache on; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
    server {
        listen 127.0.0.1:%%PORT_BETWEEN%%;
        location / { llm_gateway; llm_timeout between=300ms; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
);

my %rule = (content => 'a b c d e f g h i j', chunks => 10, pace_ms => 50);


# drain: to the end, charged what the provider asks for

for my $way (qw(close abort)) {
    for my $cache ('', 'with a cache') {
        my @port = $cache ? (port => $t->port('PORT_CACHE')) : ();
        my $name = "$way $cache";

        my @before = charged();
        $mock->script({ %rule });
        my $r = $t->start_chat("stream $name", stream => 1, @port,
            key => 'single');
        ok $r->wait_events(3), "$name: a stream runs";
        $r->$way;
        ok $mock->wait(done => 1), "$name: the provider says all of it";
        $t->all_back("$name: slots");
        is_deeply [charged(@before)], [10, 20], "$name: charged in full";
        is $mock->stats->{client_closed}, 0, "$name: and is not cut off";

        @before = charged();
        $mock->script({ content => 'whole answer', body_delay_ms => 300 });
        $r = $t->start_chat("JSON $name", @port);
        ok $mock->wait(requests => 1), "$name: a call without a stream";
        $r->$way;
        ok $mock->wait(done => 1), "$name: goes on as well";
        $t->all_back("$name: slots again");
        is_deeply [charged(@before)], [10, 20], "$name: charged, too";

        next if !$cache;

        $mock->script({ content => 'another' });

        for my $kind ('stream', 'JSON') {
            for my $stream (0, 1) {
                $r = $t->chat("$kind $name", stream => $stream, @port,
                    key => $kind eq 'stream' ? 'single' : 'user');
                like $r->header('cache-status') // '', qr/; hit/,
                    "$kind $name: stored, stream $stream";
                ok $r->complete, "$kind $name: whole, stream $stream";
            }
        }

        is $mock->stats->{requests}, 0, "$name: nobody is asked again";
    }
}

# before the header, and what breaks

$mock->script({ %rule, delay_ms => 300 });
my $r = $t->start_chat('early', stream => 1, port => $t->port('PORT_CACHE'));
ok $mock->wait(requests => 1), 'a client that leaves early';
Test::LLM::HTTP->idle(0.15);
like $r->body, qr/keepalive/, 'behind heartbeats';
$r->close;
ok $mock->wait(done => 1), 'the call goes on';
$t->all_back('early: slots');
$mock->script();
$r = $t->chat('early', port => $t->port('PORT_CACHE'));
like $r->header('cache-status'), qr/; hit/, 'early: stored';

my @before = charged();
$mock->script({ %rule, cut => 'rst', cut_events => 7 });
$r = $t->start_chat('broken', stream => 1, port => $t->port('PORT_CACHE'));
ok $r->wait_events(2), 'a stream that breaks behind its client';
$r->close;
ok $mock->wait(cut => 1), 'breaks';
$t->all_back('broken: slots');
my @charged = charged(@before);
cmp_ok $charged[1], '>', 0, "broken: charged what came: @charged";
is $mock->stats->{requests}, 1, 'broken: not tried again';
$mock->script();
$r = $t->chat('broken', port => $t->port('PORT_CACHE'));
unlike $r->header('cache-status'), qr/; hit/, 'broken: not stored';

$mock->script({ status => 503, delay_ms => 200 });
$r = $t->start_chat('failed', stream => 1);
ok $mock->wait(requests => 1), 'a call that fails behind its client';
$r->close;
ok $mock->wait(done => 1), 'fails';
$t->all_back('failed: slots');
is $mock->stats->{requests}, 1, 'failed: not tried again';


# not longer than the deadline, nor than silence may last

$mock->script({ %rule, chunks => 200 });
$r = $t->start_chat('long', stream => 1, key => 'single',
    headers => { 'x-request-timeout-ms' => '700' });
ok $r->wait_events(2), 'a long stream';
$r->close;
ok $mock->wait(client_closed => 1, timeout_ms => 2000),
    'ends at the deadline';
$t->all_back('long: slots');

$mock->script({ cut => 'hang', cut_events => 3 });
$r = $t->start_chat('silent', stream => 1, port => $t->port('PORT_BETWEEN'));
ok $r->wait_events(3), 'a stream that goes silent';
$r->close;
ok $mock->wait(client_closed => 1, timeout_ms => 2000), 'ends by its silence';
$t->all_back('silent: slots');


# cancel: at once

for my $stream (0, 1) {
    $mock->script({ %rule, chunks => 200, delay_ms => $stream ? 0 : 3000 });
    $r = $t->start_chat('away', stream => $stream, model => 'cancel-me');
    ok $stream ? $r->wait_events(2) : $mock->wait(requests => 1),
        "cancel: runs, stream $stream";
    $r->close;
    ok $mock->wait(client_closed => 1, timeout_ms => 1500),
        "cancel: the provider's connection is closed, stream $stream";
    $t->all_back("cancel: slots, stream $stream");
}


# HTTP/2

SKIP: {
    skip 'no curl with HTTP/2', 4
        if (qx(curl --version 2>/dev/null) // '') !~ /HTTP2/;

    my $body = JSON::PP->new->encode({ model => 'gpt-4o', stream => \1,
        messages => [{ role => 'user', content => 'by HTTP/2' }] });

    $mock->script({ %rule });
    my $pid = $t->spawn('curl', 'curl', '-sSN', '--http2-prior-knowledge',
        '-H', 'Authorization: Bearer ' . $t->secret('user'), '-d', $body,
        'http://127.0.0.1:' . $t->port('PORT_H2') . '/v1/chat/completions');
    ok $t->until(sub { $t->read('curl.out') =~ /data: .*data: /s }, 5),
        'HTTP/2: a stream runs';
    $t->stop_child($pid, 'KILL');
    ok $mock->wait(done => 1), 'HTTP/2: goes on';
    $t->all_back('HTTP/2: slots');
    $mock->script();
    $r = $t->post('/v1/chat/completions', $body, key => 'user',
        port => $t->port('PORT_CACHE'));
    like $r->header('cache-status'), qr/; hit/, 'HTTP/2: stored';
}

done_testing;


# tokens charged so far, or since then: (prompt, completion)

sub charged {
    my @before = @_ ? @_ : (0, 0);

    return map { $t->metric(qq(llm_tokens_total{type="$_"}))
        - shift @before } qw(prompt completion);
}
