#!/usr/bin/perl

# Streams that break: whole events, then an error event, and never an end
# that could be taken for a good one; and clients that leave.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;

$t->key('user');
$t->key('single', team => 'single', concurrency => 1);

my $mock = $t->gateway(provider => 'include_usage=off', redis => 0,
    location => 'llm_retry base=5ms cap=10ms; llm_breaker off;',
    http => <<'EOT');
    server {
        listen 127.0.0.1:%%PORT_EVERY%%;
        location / {
            llm_gateway;
            llm_cache on;
            llm_retry tries=1;
            llm_breaker off;
        }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT


# the provider dies after five events

for my $cut (
    [ 'reset', { cut => 'rst' } ],
    [ 'closed', { cut => 'close' } ],
    [ 'ended cleanly', { cut => 'clean' } ],
    [ 'ended by Content-Length', { cut => 'clean', framing => 'length' } ],
) {
    my ($name, $rule) = @$cut;

    $mock->script({ %$rule, cut_events => 5, keep => \1, pace_ms => 20 });
    my $r = $t->chat('hello', stream => 1, key => 'single');
    is $r->status, 200, "$name: status";
    is @{$r->events}, 6, "$name: five events and one of ours";
    broken($r, $mock->sent(0), 'upstream_error', $name);
    is $mock->stats->{requests}, 1, "$name: no other attempt";

    $mock->script();
    is $t->chat('hello', key => 'single')->status, 200,
        "$name: the slot is free";
}

ok $t->wait_log(qr/\[error\].*llm: provider "mock" broke off a stream/),
    'the log tells';


# cut anywhere: no half event gets out

$mock->script({ keep => \1 });
$t->chat('hello', stream => 1);
my $length = length $mock->sent(0);
my $events = () = $mock->sent(0) =~ /\n\n/g;

for (my $at = 60; $at < $length - 300; $at += 83) {
    $mock->script({ cut => 'close', cut_at => $at, keep => \1,
        slice => 50 });
    my $r = $t->chat('hello', stream => 1);

    next if $r->status == 502;                # before the first event's end

    broken($r, substr($mock->sent(0), 0, $at) =~ s/\n\n\K(?:(?!\n\n).)*\z//sr,
        'upstream_error', "cut at $at");
}


# ends that look like ends

$mock->script({ no_done => \1, finish_reason => 'none', keep => \1 });
my $r = $t->chat('hello', stream => 1);
broken($r, $mock->sent(0), 'upstream_error',
    'a clean end without [DONE] and finish_reason');

$mock->script({ error_event => 5, keep => \1 });
$r = $t->chat('hello', stream => 1);
is $r->body, $mock->sent(0), 'an error event of the provider passes';
is +(grep { /"error"/ } $r->data), 1, 'ours is not added';
is +(grep { $_ eq '[DONE]' } $r->data), 0, 'nor a [DONE]';

$mock->script({ error_event => 5, error_done => \1, keep => \1 });
$r = $t->chat('hello', stream => 1);
is $r->body, $mock->sent(0), 'an error event and [DONE] pass';


# responses

$mock->script({ cut => 'close', cut_events => 6, keep => \1 });
$r = $t->post('/v1/responses', { model => 'gpt-4o', stream => \1,
    input => 'hello' }, key => 'user');
ok !$r->complete, 'responses: not a clean end';
is @{$r->events}, 7, 'responses: six events and one of ours';
is $r->events->[-1]{event}, 'error', 'responses: an event of type error';
my $json = JSON::PP->new->utf8->decode($r->events->[-1]{data});
is $json->{type}, 'error', 'responses: type';
is $json->{code}, 'upstream_error', 'responses: code';
ok length $json->{message}, 'responses: message';

$mock->script({ cut => 'clean', cut_events => 6 });
$r = $t->post('/v1/responses', { model => 'gpt-4o', stream => \1,
    input => 'hello' }, key => 'user');
ok !$r->complete, 'responses: a clean end without response.completed';

$mock->script({ cut => 'close', cut_events => 4, keep => \1 });
$r = $t->post('/v1/completions', { model => 'gpt-4o', stream => \1,
    prompt => 'hello' }, key => 'user');
broken($r, $mock->sent(0), 'upstream_error', 'completions');


# the deadline

$mock->script({ chunks => 100, pace_ms => 50, keep => \1 });
$r = $t->chat('hello', stream => 1,
    headers => { 'x-request-timeout-ms' => '600' });
ok @{$r->events} > 5, 'the deadline in a stream';
broken($r, undef, 'upstream_timeout', 'deadline');
cmp_ok $r->end, '<', 2, 'in time: ' . $r->end;
ok $mock->wait(client_closed => 1), 'the provider\'s connection is closed';

$mock->script({ cut => 'hang', cut_events => 5 });
$r = $t->chat('hello', stream => 1,
    headers => { 'x-request-timeout-ms' => '500' });
is @{$r->events}, 6, 'the deadline in a silent stream';
broken($r, undef, 'upstream_timeout', 'silence');


# large answers without a stream

$mock->script({ content_bytes => 3_000_000, keep => \1 });
$r = $t->chat('hello', timeout => 20);
ok $r->complete, 'a large JSON answer is passed on';
is length($r->json->{choices}[0]{message}{content}), 3_000_000, 'whole';

$mock->script({ content_bytes => 3_000_000, cut => 'close',
    cut_at => 2_000_000 });
$r = $t->chat('hello', timeout => 20);
is $r->status, 200, 'a large one that breaks off';
ok !$r->complete, 'does not end as a good one';
unlike substr($r->body, -200), qr/"error"/, 'and has no words of ours in it';


# cut at every byte of a stream: all of it, or an error

my $head = '{"id":"chatcmpl-1","object":"chat.completion.chunk",'
    . '"created":1,"model":"gpt-4o","choices":[{"index":0,';
my $told = join '', map { "data: $_\n\n" }
    (map { qq($head"delta":$_,"finish_reason":null}]}) }
        '{"role":"assistant","content":""}', '{"content":"some "}',
        '{"content":"more \u00fc words"}'),
    qq($head"delta":{},"finish_reason":"stop"}]}), '[DONE]';
my @told = split /(?<=\n\n)/, $told;
my $finished = length join '', @told[0 .. 3];

my $charged = 'llm_tokens_total{type="prompt"}';
my $completed = 'llm_tokens_total{type="completion"}';
my $port = $t->port('PORT_EVERY');

my $response = '{"id":"resp_1","object":"response","created_at":1,'
    . '"model":"gpt-4o","error":null,"status":';
my $message = '{"id":"msg_1","type":"message","role":"assistant","status":';
my $part = '{"type":"output_text","annotations":[],"text":';
my $item = '"item_id":"msg_1","output_index":0,"content_index":0,';
my @pieces = ('some ', 'more \\u00fc words');
my $text = join '', @pieces;
my $number = 0;

my $responded = join '', map { my ($type, $more) = @$_;
    "event: response.$type\ndata: {\"type\":\"response.$type\","
        . qq("sequence_number":${\ $number++},$more}\n\n) }
    [ created => qq("response":$response"in_progress","output":[]}) ],
    [ 'output_item.added' => qq("output_index":0,"item":$message)
        . '"in_progress","content":[]}' ],
    [ 'content_part.added' => qq($item"part":$part""}) ],
    (map { [ 'output_text.delta' => qq($item"delta":"$_") ] } @pieces),
    [ 'output_text.done' => qq($item"text":"$text") ],
    [ 'content_part.done' => qq($item"part":$part"$text"}) ],
    [ 'output_item.done' => qq("output_index":0,"item":$message"completed",)
        . qq("content":[$part"$text"}]}) ],
    [ completed => qq("response":$response"completed","output":[$message)
        . qq("completed","content":[$part"$text"}]}]}) ];

every_byte('chat', '/v1/chat/completions', $told,
    qr/"finish_reason":"stop"/, sub { messages => [ { role => 'user',
        content => $_[0] } ] });
every_byte('responses', '/v1/responses', $responded,
    qr/"type":"response.completed"/, sub { input => $_[0], store => \0 });

$mock->script({ body => $told,
    headers => { 'content-type' => 'text/event-stream' } });

# more text costs more

my @cost;
for my $n (1 .. 5) {
    my $before = $t->metric($completed);
    $t->chat("cost $n", stream => 1, port => $port, headers => {
        'x-mock-cut' => 'close',
        'x-mock-cut-at' => length join '', @told[0 .. $n - 1] });
    push @cost, $t->metric($completed) - $before;
}
is $cost[0], 0, 'no text, nothing to pay';
ok $cost[1] > 0 && $cost[2] > $cost[1] && $cost[3] == $cost[2],
    "what was streamed is paid: @cost";


# a clean end within an event is none, though all is said

$mock->script({ body => substr($told, 0, $finished) . 'data: {"usage":{"pro',
    headers => { 'content-type' => 'text/event-stream' } });
$r = $t->chat('hello', stream => 1);
broken($r, substr($told, 0, $finished), 'upstream_error', 'a torn last event');

$mock->script({ body => substr($told, 0, -2),
    headers => { 'content-type' => 'text/event-stream' } });
$r = $t->chat('hello', stream => 1);
ok $r->complete, 'a last event without its blank line';
is $r->body, substr($told, 0, -2), 'passes';


# large events, and one that is larger than any client takes

$mock->script({ chunks => 2, chunk_bytes => 5_000_000, keep => \1 });
$r = $t->chat('hello', stream => 1, timeout => 30);
ok $r->complete, 'events of five megabytes';
is length($r->text), 10_000_000, 'are read, and all there';

$mock->script({ chunks => 2, chunk_bytes => 17_000_000 });
$r = $t->chat('hello', stream => 1, timeout => 30);
broken($r, undef, 'upstream_error', 'an event of 17 megabytes');
cmp_ok length($r->body), '<', 10_000, 'is not passed on';
like $r->body, qr/event that is too large/, 'and the error says so';
ok $t->wait_log(qr/sent an event of more than 16777216 bytes/), 'so the log';


# "error": null is no error, and not for clients

my $null = $told =~ s/("choices")/"error": null,$1/gr;

for my $slice (0, 1, 7, 100) {
    $mock->script({ body => $null, $slice ? (slice => $slice, slice_ms => 1) : (),
        headers => { 'content-type' => 'text/event-stream' } });
    $r = $t->chat("null $slice", stream => 1, port => $port);
    ok $r->complete, "\"error\":null in pieces of $slice: complete";
    unlike $r->body, qr/error/, 'is taken out';
    is length($r->body), length $null, 'nothing moves';
    is $r->body =~ s/ +\n/\n/gr, $told, 'the rest is as it was';
    $r = $t->chat("null $slice", port => $port);
    like $r->header('cache-status'), qr/; hit/, 'and is stored';
    unlike $r->body, qr/"error"/, 'without it';
}

$mock->script({ body => $told =~ s/some /an \\"error\\": null /r,
    headers => { 'content-type' => 'text/event-stream' } });
$r = $t->chat('hello', stream => 1);
like $r->body, qr/an \\"error\\": null /, 'words are left alone';

my $by_right = qq(event: response.created\ndata: {"type":"response.created",)
    . qq("response":{"id":"resp_1","error":null},"error":null}\n\n)
    . qq(event: response.completed\ndata: {"type":"response.completed",)
    . qq("response":{"id":"resp_1","error":null}}\n\n);
$mock->script({ body => $by_right,
    headers => { 'content-type' => 'text/event-stream' } });
$r = $t->post('/v1/responses', { model => 'gpt-4o', stream => \1,
    input => 'x' }, key => 'user');
is $r->body, $by_right, 'a response has it by right';


# the client leaves

for my $way (qw(close abort)) {
    $mock->script({ times => 1, chunks => 1000, pace_ms => 20 });
    $r = $t->start_chat('hello', stream => 1, key => 'single');
    ok $r->wait_events(3), "$way: a stream runs";
    $r->$way;
    ok $mock->wait(client_closed => 1, timeout_ms => 1500),
        "$way: the provider's connection is closed at once";
    is $t->chat('hello', key => 'single')->status, 200,
        "$way: the slot is free";
}

$mock->script({ cut => 'hang', cut_events => 3 });
$r = $t->start_chat('hello', stream => 1);
ok $r->wait_events(3), 'a stream that is silent';
$r->close;
ok $mock->wait(client_closed => 1, timeout_ms => 1500), 'is closed as well';
$mock->script();

done_testing;


# The provider breaks off after each number of bytes, in both ways.

sub every_byte {
    my ($name, $path, $told, $finish, $say) = @_;

    my ($whole, $streamed, %outcome) = (0, 0);
    my %before = map { $_ => $t->metric($_) } $charged, 'llm_cache_put_total';
    my $ask = sub {
        my ($way, $at) = @_;
        return $t->start_post($path, { model => 'gpt-4o', stream => \1,
            $say->("$way at " . sprintf '%05d', $at) }, key => 'user',
            port => $port, headers => { 'x-mock-cut' => $way,
                'x-mock-cut-at' => $at });
    };

    $mock->script({ body => $told,
        headers => { 'content-type' => 'text/event-stream' } });

    for my $way (qw(close clean)) {
        my @at = 0 .. length $told;

        while (my @some = splice @at, 0, 20) {
            my @r = map { $ask->($way, $_) } @some;

            for my $at (@some) {
                my $r = shift @r;
                $r->wait;

                my $what = outcome($r, substr($told, 0, $at), $finish);
                push @{$outcome{$what}}, "$way $at";
                $whole++ if $what eq 'whole';
                $streamed++ if $r->status == 200;
            }
        }
    }

    is join(' ', sort keys %outcome), 'error refused whole',
        "$name, every byte: all of it, or an error";
    is_deeply [map { "$_: @{$outcome{$_}}" } grep { !/error|refused|whole/ }
        keys %outcome], [], "$name, every byte: nothing else";
    is_deeply [grep { /close (\d+)/ && $1 < length($told) - 2 }
        @{$outcome{whole}}], [],
        "$name, every byte: a framing that breaks off is no good end";
    cmp_ok $whole, '>=', 2, "$name, every byte: $whole whole";

    $t->all_back("$name, every byte: slots");
    is $t->metric('llm_cache_put_total') - $before{llm_cache_put_total},
        $whole, "$name, every byte: what is not whole is not stored";

    my $once = $t->metric($charged);
    $ask->(close => length($told) + 1)->wait;
    is $once - $before{$charged}, $streamed * ($t->metric($charged) - $once),
        "$name, every byte: the prompt of each stream is charged";
}


# what a client was given of so many bytes

sub outcome {
    my ($r, $sent, $finish) = @_;

    my $body = $r->body;
    my $events = join '', $sent =~ /\G(.+?\n\n)/gs;

    if ($r->status != 200) {
        return $r->complete && $events eq '' && $r->json->{error}{code}
            ? 'refused' : 'status ' . $r->status;
    }

    if ($r->complete) {
        return 'cut short' if $body ne $sent && $body ne $events;
        return 'unfinished' if $body !~ $finish;
        return 'whole';
    }

    return 'no error' if $body !~ s/data: \{"error":\{.*\}\n\n\z//
        && $body !~ s/event: error\ndata: \{"type":"error".*\}\n\n\z//;
    return $body eq $events ? 'error' : 'torn';
}


# all events of the provider, an error event, and no good end

sub broken {
    my ($r, $sent, $code, $name) = @_;

    my @data = $r->data;
    my @bad = grep { !eval { JSON::PP->new->utf8->decode($_) } } @data;
    my $last = eval { JSON::PP->new->utf8->decode($data[-1]) } // {};

    ok !$r->complete, "$name: the framing does not end";
    is "@bad", '', "$name: every event is whole, and none [DONE]";
    is join(' ', sort keys %{$last->{error} // {}}),
        'code message param type', "$name: an error event";
    is $last->{error}{code}, $code, "$name: code";
    like $r->body, qr/\ndata: \{"error".*\}\n\n\z/, "$name: the last";

    return if !defined $sent;

    is $r->body =~ s/data: \{"error":.*\n\n\z//r, $sent,
        "$name: before it the provider's bytes";
}
