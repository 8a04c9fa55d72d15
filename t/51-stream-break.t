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
    location => 'llm_retry base=5ms cap=10ms;');


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
