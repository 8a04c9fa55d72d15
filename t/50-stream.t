#!/usr/bin/perl

# Streams that go well: events arrive one by one, byte for byte, whatever
# their line ends, sizes and pieces are; nothing is said to the client before
# the first event has come.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Zlib qw(crc32);

use Test::LLM;


my $t = Test::LLM->new;
my $mock = $t->gateway(provider => 'include_usage=off', redis => 0,
    location => 'llm_retry budget=100 floor=1000 base=5ms cap=10ms; llm_timeout first_byte=5s;');


# 20 events, 50 ms apart

$mock->script({ chunks => 17, pace_ms => 50, keep => \1 });

my $r = $t->start_chat('hello', stream => 1);
ok $r->wait_events(3), 'events arrive';
is $r->end, undef, 'before the stream has ended';
is $mock->stats->{in_flight}, 1, 'and been sent';
$r->wait;

is $r->status, 200, 'status';
like $r->header('Content-Type'), qr{^text/event-stream}, 'type';
is $r->header('Content-Length'), undef, 'no length';
is $r->header('x-llm-attempts'), 1, 'one attempt';
ok $r->header('x-request-id'), 'x-request-id';
ok $r->complete, 'complete';
is $r->body, $mock->sent(0), 'byte for byte what the provider sent';

my @events = @{$r->events};
is @events, 20, 'twenty events';
is $events[-1]{data}, '[DONE]', 'with the last one';

my $first = $events[0]{time};
my @early = grep { $events[$_]{time} - $first < $_ * 50 / 1000 - 0.04 }
    0 .. $#events;
my @late = grep { $events[$_]{time} - $first > $_ * 50 / 1000 + 0.4 }
    0 .. $#events;
is "@early", '', 'none before its time';
is "@late", '', 'none much later';
my @gaps = map { $events[$_]{time} - $events[$_ - 1]{time} } 1 .. $#events;
cmp_ok scalar(grep { $_ > 0.02 } @gaps), '>=', 15, 'one at a time';

$r = $r->again(method => 'GET', path => '/healthz');
$r->wait;
is $r->status, 200, 'the connection is good for another request';


# shapes of streams

for my $shape (
    [ 'usual', {} ],
    [ 'CRLF', { eol => 'crlf' } ],
    [ 'CR', { eol => 'cr' } ],
    [ 'comments', { comment => 'still here' } ],
    [ 'comments and CRLF', { comment => 'still here', eol => 'crlf' } ],
    [ 'byte by byte', { slice => 1 } ],
    [ 'byte by byte, CRLF', { slice => 1, eol => 'crlf' } ],
    [ 'byte by byte, CR', { slice => 1, eol => 'cr' } ],
    [ 'pieces of 7 bytes', { slice => 7, comment => 'x' } ],
    [ 'slow pieces', { slice => 100, slice_ms => 2 } ],
    [ 'a byte order mark', { before => "\x{feff}" } ],
    [ 'lines before it', { before => ": hello\n\n\n\n" } ],
    [ 'events of 300 KB', { chunks => 3, chunk_bytes => 300_000 } ],
    [ 'many events', { chunks => 3000 } ],
    [ 'by Content-Length', { framing => 'length' } ],
    [ 'by the connection\'s end', { framing => 'close' } ],
    [ 'usage', { usage => 'last' } ],
    [ 'a tool call', { tool_name => 'look', tool_args => '{"a":1}' } ],
    [ 'no [DONE], but a finish_reason', { no_done => \1 } ],
    [ '[DONE], but no finish_reason', { finish_reason => 'none' } ],
) {
    my ($name, $rule) = @$shape;

    $mock->script({ keep => \1, %$rule });
    $r = $t->chat('hello', stream => 1);
    is $r->status, 200, $name;
    ok $r->complete, "$name: complete";
    ok $r->body eq $mock->sent(0), "$name: byte for byte"
        or diag('length ', length $r->body, ' of ', length $mock->sent(0));
}

for my $size (900_000, 1_200_000, 3_000_000) {
    $mock->script({ chunks => 2, chunk_bytes => $size, keep => \1 });
    $r = $t->chat('hello', stream => 1, timeout => 30);
    my ($record) = $mock->journal;
    ok $r->complete, "events of $size bytes: complete";
    is length($r->body), $record->{sent_length}, 'length';
    is crc32($r->body), $record->{sent_crc32}, 'byte for byte';
}


# endpoints and options

for my $other (
    [ 'completions', '/v1/completions', { prompt => 'hello' } ],
    [ 'responses', '/v1/responses', { input => 'hello' } ],
    [ 'usage', '/v1/chat/completions', { messages => [],
        stream_options => { include_usage => \1 } } ],
    [ 'two choices', '/v1/chat/completions', { messages => [], n => 2 } ],
) {
    my ($name, $path, $body) = @$other;

    $mock->script({ keep => \1 });
    $r = $t->post($path, { model => 'gpt-4o', stream => \1, %$body },
        key => 'user');
    ok $r->complete, "$name: complete";
    is $r->body, $mock->sent(0), "$name: byte for byte";
}

like $t->post('/v1/responses', { model => 'gpt-4o', stream => \1,
    input => 'hello' }, key => 'user')->body,
    qr/event: response.completed\r?\ndata: .*\n\n\z/,
    'responses end without [DONE]';

$mock->script({ body => '{"choices":[{"finish_reason":"stop"}]}',
    headers => { 'content-type' => 'application/json' } });
$r = $t->chat('hello', stream => 1);
is $r->status, 200, 'a provider that does not stream';
is $r->body, '{"choices":[{"finish_reason":"stop"}]}', 'is no problem';


# nothing is sent before the first event

for my $start (
    [ 'an error event', { error_event => 0 } ],
    [ 'a comment, an error event', { before => ": hi\n\n",
        error_event => 0 } ],
    [ 'a status 503', { status => 503 } ],
    [ 'the end', { cut => 'clean', cut_at => 'head' } ],
    [ 'a reset', { cut => 'rst', cut_at => 'head' } ],
    [ 'a comment, the end', { before => ": hi\n\n", cut => 'clean',
        cut_at => 6 } ],
    [ 'half an event', { cut => 'close', cut_at => 40 } ],
    [ 'nothing of a stream', { body => "so sorry\n" } ],
) {
    my ($name, $rule) = @$start;

    $mock->script({ times => 1, %$rule }, { keep => \1 });
    $r = $t->chat('hello', stream => 1);
    is $r->status, 200, "$name first: 200";
    is $r->header('x-llm-attempts'), 2, "$name: another attempt";
    ok $r->complete, "$name: a clean stream";
    is $r->body, $mock->sent(1), "$name: only of the second";

    $mock->script($rule);
    $r = $t->chat('hello', stream => 1);
    is $r->status, $rule->{status} // 502, "$name for ever: a real status";
    like $r->header('Content-Type'), qr{^application/json}, "$name: JSON";
    is join(' ', sort keys %{$r->json->{error}}), 'code message param type',
        "$name: an error object";
    is $mock->stats->{requests}, 3, "$name: three attempts";
}

$mock->script({ cut => 'hang', cut_at => 'head' });
$r = $t->chat('hello', stream => 1,
    headers => { 'x-request-timeout-ms' => '500' });
is $r->status, 504, 'a header and no event until the deadline';
is $r->json->{error}{code}, 'upstream_timeout', 'code';

done_testing;
