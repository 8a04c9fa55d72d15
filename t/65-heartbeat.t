#!/usr/bin/perl

# Heartbeats: comments for a client of a stream that has waited for long, in
# line, for the provider, between attempts and between events; what becomes of
# errors and of answers behind them; and the silence that ends a stream.
#
# Alone: beats are measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('single', team => 'single', concurrency => 1);

my $retry = 'llm_retry tries=3 base=5ms cap=10ms budget=100 floor=1000;'
    . 'llm_breaker off;';
my $heart = 'llm_heartbeat 100ms grace=250ms;';

sub server {
    my ($listen, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:$listen;
        location / { llm_gateway; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->gateway(provider => 'include_usage=off', redis => 0,
    location => "$heart $retry",
    http => server('%%PORT_CACHE%%', "llm_cache on; $heart $retry")
        . server('%%PORT_ONE%%', "llm_cache on; $heart llm_retry tries=1;"
            . 'llm_breaker off;')
        . server('%%PORT_H2%% http2', "$heart $retry")
        . server('%%PORT_SLOW%% sndbuf=64k', "$heart $retry")
        . server('%%PORT_GZIP%%', "$heart $retry gzip on; gzip_min_length 0;
            gzip_types text/event-stream;")
        . server('%%PORT_BETWEEN%%', "$heart $retry
            llm_timeout between=450ms;")
        . server('%%PORT_OFF%%', 'llm_timeout between=300ms;'),
);

my %short = (content => 'one two three', chunks => 4);


# before the provider says anything, and before its first event

for my $late ([ 'the header', delay_ms => 700 ],
    [ 'the first event', ttft_ms => 700 ])
{
    my ($name, %rule) = @$late;

    $mock->script({ %short, %rule, keep => \1 });
    my $r = $t->chat('hello', stream => 1);

    is $r->status, 200, "$name is late: status";
    is $r->header('content-type'), 'text/event-stream; charset=utf-8',
        "$name is late: the type";
    is $r->header('x-llm-provider'), 'mock', "$name is late: the provider";
    ok length $r->header('x-request-id'), "$name is late: an id";
    is $r->header('cache-control'), 'no-cache', "$name is late: not kept";
    beats($r, 2, 6, "$name is late");
    cmp_ok $r->first, '>=', 0.24, "$name is late: not before the grace time";
    cmp_ok $r->first, '<', 0.6, "$name is late: but soon after it";
    like $r->body, qr/\A: keepalive\n(?!\n)/, "$name is late: at the front";
    is stripped($r), $mock->sent(0), "$name is late: then all its bytes";
    ok $r->complete, "$name is late: a good end";
    is $mock->stats->{requests}, 1, "$name is late: one attempt";
}


# between events, and never in the middle of one

$mock->script({ chunks => 6, idle_at => 3, idle_ms => 600, keep => \1 });
my $r = $t->chat('hello', stream => 1);
beats($r, 2, 6, 'silence in mid-stream');
like $r->body, qr/\A(?:data: .*\n\n){3}(?:: keepalive\n)+data/,
    'behind the third event';
is stripped($r), $mock->sent(0), 'silence in mid-stream: byte for byte';
isnt $r->header('x-llm-provider'), undef, 'and the provider\'s header';

$mock->script({ %short, slice => 40, slice_ms => 60, keep => \1 });
$r = $t->chat('hello', stream => 1);
beats($r, 3, 60, 'events in small pieces');
is stripped($r), $mock->sent(0), 'events in small pieces: byte for byte';

$mock->script({ %short, slice => 40, slice_ms => 60, keep => \1,
    eol => 'crlf' });
$r = $t->chat('hello', stream => 1);
beats($r, 3, 60, 'line ends of two bytes');
is $r->body =~ s/: keepalive\n//gr, $mock->sent(0),
    'line ends of two bytes: byte for byte';

$mock->script({ %short, pace_ms => 60, chunks => 10, keep => \1 });
$r = $t->chat('hello', stream => 1);
is $r->body, $mock->sent(0), 'a stream that goes on needs none';

$mock->script({ cut => 'hang', cut_events => 7, %short });
$r = $t->start_chat('hello', stream => 1, timeout => 2);
ok $r->wait(sub { $_[0]->body =~ /DONE/ }, 2), 'silent behind [DONE]';
Test::LLM::HTTP->idle(0.4);
unlike $r->body, qr/keepalive/, 'has no heartbeat';
$r->close;


# other requests have none

$mock->script({ %short, delay_ms => 600 });
$r = $t->chat('hello');
is $r->header('content-type'), 'application/json', 'no stream: JSON';
unlike $r->body, qr/keepalive/, 'no stream: no heartbeats';
cmp_ok $r->first, '>', 0.55, 'no stream: no early header';

$r = $t->post('/v1/embeddings', { model => 'gpt-4o', stream => \1,
    input => 'x' }, key => 'user');
unlike $r->body, qr/keepalive/, 'embeddings: no heartbeats';
is ref $r->json->{data}, 'ARRAY', 'embeddings: the answer';

$mock->script({ %short, delay_ms => 500 });
$r = $t->chat('hello', stream => 1, port => $t->port('PORT_OFF'));
unlike $r->body, qr/keepalive/, 'not configured: no heartbeats';


# in line, and between attempts

$mock->script({ %short, match => { body => 'first' }, delay_ms => 800 },
    { %short, keep => \1 });
my $first = $t->start_chat('first', key => 'single');
ok $mock->wait(requests => 1), 'a slot is taken';
$r = $t->chat('second', stream => 1, key => 'single');
beats($r, 2, 7, 'in line');
is text($r), 'one two three', 'in line: then the answer';
ok $r->complete, 'in line: a good end';
$first->wait;

$mock->script({ times => 1, status => 503,
    headers => { 'retry-after-ms' => '600' } }, { %short, keep => \1 });
$r = $t->chat('hello', stream => 1);
is $mock->stats->{requests}, 2, 'a pause between attempts: two of them';
beats($r, 2, 5, 'a pause between attempts');
is stripped($r), $mock->sent(1), 'a pause between attempts: the second one';
ok $r->complete, 'a pause between attempts: a good end';

$mock->script({ times => 2, status => 500, delay_ms => 200 },
    { times => 1, cut => 'rst', delay_ms => 200 });
$r = $t->chat('hello', stream => 1);
is $mock->stats->{requests}, 3, 'attempts go on behind the header';
failed($r, 'upstream_error', 'all of them fail');


# errors are told in the stream

my $words = "no \"such\" thing\\\n\x{fc}";

for my $shape (
    [ 'chat', '/v1/chat/completions', { messages => [] } ],
    [ 'completions', '/v1/completions', { prompt => 'x' } ],
    [ 'responses', '/v1/responses', { input => 'x' } ],
) {
    my ($name, $path, $body) = @$shape;

    $mock->script({ status => 400, delay_ms => 500, error_message => $words,
        error_code => 'no_thing', error_type => 'invalid_request_error' });
    $r = $t->post($path, { model => 'gpt-4o', stream => \1, %$body },
        key => 'user');
    my $e = failed($r, 'no_thing', "$name, the provider's own error");
    is $e->{message}, $words, "$name: its words";
    is $e->{type}, 'invalid_request_error', "$name: its type";

    my $event = JSON::PP->new->utf8->decode($r->events->[-1]{data});

    if ($name eq 'responses') {
        is $r->events->[-1]{event}, 'error', "$name: event";
        is $event->{type}, 'error', "$name: type";
        is $event->{message}, $words, "$name: message";
        is $event->{code}, 'no_thing', "$name: code";
    }
}

$mock->script({ hang => \1 });
$r = $t->chat('hello', stream => 1,
    headers => { 'x-request-timeout-ms' => '700' });
failed($r, 'upstream_timeout', 'the deadline');
beats($r, 2, 6, 'the deadline');
cmp_ok $r->end, '<', 1.5, 'the deadline is kept: ' . $r->end;

$mock->script({ %short, match => { body => 'first' }, delay_ms => 1500 },
    { %short });
$first = $t->start_chat('first', key => 'single');
$mock->wait(requests => 1);
$r = $t->chat('hello', stream => 1, key => 'single',
    headers => { 'x-request-timeout-ms' => '600' });
my $e = failed($r, undef, 'the deadline in line');
$first->wait;


# a provider that answers without a stream

my $json = { id => 'chatcmpl-1', object => 'chat.completion', created => 1,
    model => 'gpt-4o', choices => [{ index => 0, finish_reason => 'stop',
        message => { role => 'assistant', content => 'all at once' } }],
    usage => { prompt_tokens => 1, completion_tokens => 3,
        total_tokens => 4 } };

for my $size (10, 1_500_000) {
    $json->{choices}[0]{message}{content} = 'y' x $size;
    $mock->script({ body => $json, delay_ms => 500,
        headers => { 'content-type' => 'application/json' } });
    $r = $t->chat('hello', stream => 1, timeout => 20);
    beats($r, 1, 5, "JSON of $size bytes");
    ok $r->complete, "JSON of $size bytes: a good end";
    is text($r), 'y' x $size, "JSON of $size bytes: is told as a stream";
    is +($r->data)[-1], '[DONE]', "JSON of $size bytes: [DONE]";
}

$mock->script({ body => { id => 'x', object => 'what' }, delay_ms => 500,
    headers => { 'content-type' => 'application/json' } });
$r = $t->chat('hello', stream => 1);
failed($r, 'upstream_error', 'JSON that is no answer');

$mock->script({ body => $json, headers =>
    { 'content-type' => 'application/json' } });
$json->{choices}[0]{message}{content} = 'at once';
$r = $t->chat('hello', stream => 1);
like $r->header('content-type'), qr/json/, 'at once: passes as it is';


# joined calls, and answers that are there

$mock->script({ content => 'joined words', chunks => 4, delay_ms => 600,
    keep => \1 });
my @r = map { $t->start_chat('together', stream => 1,
    port => $t->port('PORT_CACHE')) } 1 .. 3;
$_->wait for @r;
is $mock->stats->{requests}, 1, 'joined: one call';
for (0 .. 2) {
    beats($r[$_], 2, 6, "joined $_");
    ok $r[$_]->complete, "joined $_: a good end";
    is stripped($r[$_]), $mock->sent(0), "joined $_: the bytes";
}

$r = $t->chat('together', stream => 1, port => $t->port('PORT_CACHE'));
like $r->header('cache-status'), qr/hit/, 'from the cache';
unlike $r->body, qr/keepalive/, 'from the cache: no heartbeat';

$mock->script({ content => 'other words', chunks => 4, idle_at => 3,
    idle_ms => 600, keep => \1 });
@r = map { $t->start_chat('apart', stream => 1,
    port => $t->port('PORT_CACHE')) } 1 .. 3;
$_->wait for @r;
is $mock->stats->{requests}, 1, 'joined in mid-stream: one call';
for (0 .. 2) {
    beats($r[$_], 2, 6, "joined in mid-stream $_");
    is stripped($r[$_]), $mock->sent(0), "joined in mid-stream $_: the bytes";
}

# who followed a call that failed makes its own, behind the same header

$mock->script({ times => 1, status => 500, delay_ms => 500 },
    { content => 'own words', chunks => 4 });
@r = map { $t->start_chat('parted', stream => 1,
    port => $t->port('PORT_ONE')) } 1 .. 2;
$_->wait for @r;
my @good = grep { $_->complete } @r;
is @good, 1, 'a call that fails: the follower goes on';
is text($good[0]), 'own words', 'and has the answer' if @good;
beats($good[0], 2, 6, 'all the while') if @good;
failed($_, undef, 'the leader is told')
    for grep { !$_->complete } @r;

# who follows a JSON answer

$json->{choices}[0]{message}{content} = 'for all';
$mock->script({ body => $json, delay_ms => 500,
    headers => { 'content-type' => 'application/json' } });
@r = map { $t->start_chat('as JSON', stream => 1,
    port => $t->port('PORT_CACHE')) } 1 .. 2;
$_->wait for @r;
is text($_), 'for all', 'a JSON answer for two' for @r;


# a slow client gets no more than it reads

$mock->script({ chunks => 80, chunk_bytes => 10_000, keep => \1 });
$r = $t->start_chat('hello', stream => 1, port => $t->port('PORT_SLOW'),
    rcvbuf => 8192, timeout => 60,
    on_event => sub { $_[0]->pause if @{$_[0]->events} == 2 });
ok $r->wait_events(2), 'a client that stops reading';
Test::LLM::HTTP->idle(1.5);
$r->resume;
$r->wait;
ok $r->complete, 'a slow client: a good end';
my $n = () = $r->body =~ /: keepalive/g;
cmp_ok $n, '<', 3, "a slow client: heartbeats do not pile up: $n";
is @{$r->events}, 83, 'a slow client: all events';


# a client that leaves meanwhile

$mock->script({ hang => \1 });
$r = $t->start_chat('hello', stream => 1);
ok $r->wait(sub { ($_[0]->body // '') =~ /keepalive/ }, 3), 'waits';
$r->close;
ok $mock->wait(client_closed => 1, timeout_ms => 1500),
    'and leaves: the provider\'s connection is closed';


# HTTP/2 and gzip

SKIP: {
    skip 'no curl with HTTP/2', 4
        if (qx(curl --version 2>/dev/null) // '') !~ /HTTP2/;

    my $body = JSON::PP->new->encode({ model => 'gpt-4o', stream => \1,
        messages => [{ role => 'user', content => 'hello' }] });
    my @curl = ('curl', '-sSN', '--http2-prior-knowledge', '-m', '20',
        '-H', 'Authorization: Bearer ' . $t->secret('user'), '-d', $body,
        'http://127.0.0.1:' . $t->port('PORT_H2') . '/v1/chat/completions');

    $mock->script({ %short, delay_ms => 500, idle_at => 3, idle_ms => 400,
        keep => \1 });
    open my $out, '-|', @curl or die "curl: $!";
    my $got = do { local $/; <$out> } // '';
    ok close $out, 'HTTP/2: a good end';
    like $got, qr/\A(?:: keepalive\n)+data: .*\n\n: keepalive\n/s,
        'HTTP/2: heartbeats';
    is $got =~ s/^: keepalive\n//mgr, $mock->sent(0),
        'HTTP/2: byte for byte';

    $mock->script({ status => 400, delay_ms => 500 });
    open $out, '-|', @curl, '--stderr', $t->path('curl.err')
        or die "curl: $!";
    $got = do { local $/; <$out> } // '';
    ok !close $out, 'HTTP/2: an error in the stream is no good end';
}

$mock->script({ %short, delay_ms => 500 });
$r = $t->start_chat('hello', stream => 1, port => $t->port('PORT_GZIP'),
    headers => { 'Accept-Encoding' => 'gzip' });
ok $r->wait(sub { @{$_[0]->chunks} >= 2 }, 3), 'gzip: heartbeats are flushed';
$r->wait;
ok $r->complete, 'gzip: a good end';


# heartbeats are no sign of life of the provider

my $silent = 'llm_upstream_attempts_total{provider="mock",result="silent"}';

for my $port (qw(PORT_BETWEEN PORT_OFF)) {
    my $before = $t->metric($silent);

    $mock->script({ cut => 'hang', cut_events => 4, keep => \1 });
    $r = $t->chat('hello', stream => 1, port => $t->port($port));
    my $e = failed($r, 'upstream_timeout', "$port, silent between events");
    like $e->{message}, qr/went silent/, "$port: it is said so";
    cmp_ok $r->end, '<', 1.5, "$port: in time: " . $r->end;
    is @{$r->events}, 5, "$port: four events and ours";
    is $t->metric($silent), $before + 1, "$port: counted";
    ok $mock->wait(client_closed => 1), "$port: the connection is closed";
}

beats($r = $t->chat('again', stream => 1, port => $t->port('PORT_BETWEEN')),
    2, 5, 'meanwhile');
ok $t->wait_log(qr/broke off a stream: it went silent/), 'and logged';

$mock->script({ chunks => 12, pace_ms => 150 });
$r = $t->chat('hello', stream => 1, port => $t->port('PORT_BETWEEN'));
ok $r->complete, 'a slow stream is not silent';

$t->all_back('at the end');

done_testing;


# whole comments of one line feed, only between events

sub beats {
    my ($r, $least, $most, $name) = @_;

    my $n = () = $r->body =~ /^: keepalive\n/mg;
    my $all = () = $r->body =~ /keepalive/g;

    cmp_ok $n, '>=', $least, "$name: heartbeats: $n";
    cmp_ok $n, '<=', $most, "$name: not too many";
    is $n, $all, "$name: each is a line";

    my $inside = () = $r->body
        =~ /(?<!\n\n)(?<!\r\n\r\n)(?<!: keepalive\n)(?<!\A): keepalive/g;
    is $inside, 0, "$name: between events";
}


sub stripped { return $_[0]->body =~ s/^: keepalive\n//mgr }


sub text {
    my ($r) = @_;

    return join '', map {
        eval { JSON::PP->new->decode($_)->{choices}[0]{delta}{content} } // ''
    } $r->data;
}


# the answer is an error event behind our header, and has no good end

sub failed {
    my ($r, $code, $name) = @_;

    my @data = $r->data;
    my $last = eval { JSON::PP->new->utf8->decode($data[-1]) } // {};

    is $r->status, 200, "$name: status";
    like $r->header('content-type'), qr/event-stream/, "$name: type";
    ok !$r->complete, "$name: no good end";
    is +(grep { $_ eq '[DONE]' } @data), 0, "$name: no [DONE]";
    is join(' ', sort keys %{$last->{error} // {}}),
        'code message param type', "$name: an error event";
    is $last->{error}{code}, $code, "$name: code" if defined $code;

    return $last->{error} // {};
}
