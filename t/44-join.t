#!/usr/bin/perl

# Requests that share one call, in one gateway of two workers: who joins whom
# and who does not, and what followers get when the leader's client, the
# leader's worker or the provider goes away.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

# made at random, so that a lost or doubled piece shows
my @words = map { sprintf '<%d:%06x>', $_, rand 1 << 24 } 1 .. 40;
my $content = join '', @words;

my @rule = (content => $content, chunk_bytes => 16, delay_ms => 300,
    pace_ms => 10);

$t->key('user');
$t->key('colleague');
$t->key('stranger', team => 'other');
$t->key('alone', cache => { scope => 'key' });
$t->key('one', concurrency => 1);
$t->key('short', concurrency => 1, queue => { size => 8, timeout_ms => 500 });
$t->key('broke', team => 'broke', requests_per_minute => 1,
    burst_requests => 1000, tokens_per_minute => 100,
    cache => { scope => 'global' });
$t->key('rich', team => 'rich', cache => { scope => 'global' });

sub server {
    my ($port, $location, $listen) = @_;
    $listen //= '';
    $location .= ' llm_retry tries=1;' if $location !~ /llm_retry/;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%% $listen;
        location / { llm_gateway; llm_cache on; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
        location /llm/dying/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->mock('--journal', 4000);
my $dying = $t->mock;

$t->gateway(
    routes => 'llm_provider dying uri=/llm/dying/ '
        . 'key=file:%%DIR%%/provider.key; llm_route dying dying; llm_route * mock;',
    location => 'llm_cache on; llm_retry tries=1;',
    server => '%%BOTH%% listen 127.0.0.1:%%PORT_H2%% http2;
        access_log %%DIR%%/llm.log llm;
        location /llm/dying/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
    http => 'log_format llm "$llm_request_id $llm_cache '
        . '[$llm_prompt_tokens] [$llm_completion_tokens] $llm_attempts";'
        . server(PORT_OFF => 'llm_join off;')
        . server(PORT_FEW => 'llm_join on followers=3;')
        . server(PORT_LOG => 'llm_join on log=64k;', 'sndbuf=16k')
        . server(PORT_RETRY => 'llm_retry tries=3 base=20ms;')
        . server(PORT_SLOW => '', 'sndbuf=16k'),
);

my @worker = $t->workers;
my $scene = 0;


# a hundred streams at a time

begin('a hundred streams');
my @r = crowd(100, stream => 1);
whole('each of a hundred streams is whole', @r);
equal('and equal to the others', @r);
calls(1, 'by one call');
my %by = map { $_->header('x-pid') => 1 } @r;
is scalar(keys %by), 2, 'of both workers';
is +(grep { status_of($_) =~ /; collapsed$/ } @r), 99,
    'Cache-Status tells of those that joined';
is scalar(keys %{{ map { $_->header('x-request-id') => 1 } @r }}), 100,
    'each has an x-request-id of its own';
ok $t->until(sub { 99 == (() = $t->read('llm.log')
    =~ /^\S+ joined \[-\] \[-\] 0$/mg) }),
    'so does the log, and that they were charged no tokens';
is $r[0]->body, sent(), 'as the provider said it';


# … and JSON

begin('a hundred answers');
@r = crowd(100);
is +(grep { ($_->status // 0) == 200 && $_->complete } @r), 100,
    'a hundred answers';
equal('are equal', @r);
calls(1, 'and one call');
is $r[0]->json->{choices}[0]{message}{content}, $content, 'the right one';
is +(grep { status_of($_) =~ /; collapsed$/ } @r), 99, 'for those that joined';
is scalar(keys %{{ map { $_->header('x-request-id') => 1 } @r }}), 100,
    'ids of their own';


# shapes

begin('a stream leads');
my ($leader) = lead(0, stream => 1);
@r = follow(6);
$_->wait for $leader, @r;
whole('JSON requests join a stream', $leader);
equal('and get the same JSON', @r);
calls(1, 'of one call');
is $r[0]->json->{object}, 'chat.completion', 'which it is';
is $r[0]->json->{choices}[0]{message}{content}, $content, 'with the text';
is $r[0]->json->{choices}[0]{finish_reason}, 'stop', 'a finish_reason';
ok $r[0]->json->{usage}{total_tokens}, 'and usage';

begin('JSON leads');
$leader = lead(0);
my $stream = $t->on($worker[1], text(), stream => 1);
$_->wait for $leader, $stream;
whole('a stream does not join a JSON request', $stream);
calls(2, 'but calls for itself');

begin('usage');
my $want = { stream_options => { include_usage => JSON::PP::true } };
$leader = lead(0, stream => 1);
@r = (follow(3, stream => 1, body => $want), follow(3, stream => 1));
$_->wait for $leader, @r;
is $leader->body, $r[5]->body, 'who did not ask for usage has the same';
equal('so have those who asked', @r[0 .. 2]);
is +(grep { /"usage":\{/ } $r[0]->data), 1, 'with one event of usage';
is +(grep { /"usage":\{/ } $r[5]->data), 0, 'that the others have not';
is scalar(@{$r[0]->events}), @{$r[5]->events} + 1, 'and nothing else';
calls(1, 'by one call');

begin('usage leads');
$leader = lead(0, stream => 1, body => $want);
@r = follow(2, stream => 1);
$_->wait for $leader, @r;
is scalar(@{$leader->events}), @{$r[0]->events} + 1, 'and the other way round';
whole('whole', @r);
calls(1, 'by one call');


for my $other ([ 'embeddings', input => 'joined' ],
    [ 'completions', prompt => 'joined', stream => JSON::PP::true ],
    [ 'responses', input => 'joined', store => JSON::PP::false ],
    [ 'responses', input => 'joined, too', store => JSON::PP::false,
      stream => JSON::PP::true ])
{
    my ($path, @body) = @$other;
    my $name = "/v1/$path" . ({ @body }->{stream} ? ', a stream' : '');

    begin($name);
    @r = map { $t->start_post("/v1/$path", { model => 'gpt-4o',
        user => $_, @body }, key => 'user') } 1 .. 8;
    $_->wait for @r;
    is +(grep { $_->status == 200 && $_->complete } @r), 8,
        "$name: all have an answer";
    equal('the same', @r);
    calls(1, 'of one call');
}


# a latecomer

begin('late', pace_ms => 30);
$leader = lead(0, stream => 1);
$leader->wait_events(20);
my $late = $t->on($worker[1], text(), stream => 1);
$_->wait for $leader, $late;
whole('who comes late has all of it', $late);
is $late->body, $leader->body, 'the same';
calls(1, 'by one call');
my @at = map { $_->{time} } @{$late->events};
cmp_ok $at[18] - $at[0], '<', 0.12, 'the beginning at once';
cmp_ok $at[-1] - $at[19], '>', 0.1, 'and then as it comes';
cmp_ok abs(ended($late) - ended($leader)), '<', 0.2, 'until the end';


# who does not join

begin('others');
@r = map { $t->start_chat(text(), %$_) } {}, { key => 'stranger' },
    { key => 'alone' }, { model => 'gpt-4o-mini' }, { body => { seed => 1 } },
    { headers => { 'Cache-Control' => 'no-store' } };
$mock->wait(requests => 6);
push @r, $t->start_chat(text(), key => $_) for qw(colleague stranger alone);
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 9, 'other team, scope, model, member, '
    . 'or no-store';
calls(6, 'share nothing');
is $r[6]->body, $r[0]->body, 'a colleague joins';
is $r[7]->body, $r[1]->body, 'within another team, too';
is $r[8]->body, $r[2]->body, 'and a key alone joins itself';

begin('no-cache');
$leader = lead(0, stream => 1);
@r = follow(2, stream => 1);
my $fresh = $t->on($worker[1], text(), stream => 1,
    headers => { 'Cache-Control' => 'no-cache' });
$_->wait for $leader, @r, $fresh;
whole('no-cache does not join', $fresh, $leader, @r);
equal('and leaves the others together', $leader, @r);
isnt $fresh->body, $leader->body, 'with another answer';
calls(2, 'of another call');

begin('join off');
@r = map { $t->start_chat(text(), port => $t->port('PORT_OFF')) } 1 .. 3;
$_->wait for @r;
calls(3, 'llm_join off');

begin('few followers');
@r = map { $t->start_chat(text(), port => $t->port('PORT_FEW'),
    stream => 1) } 1 .. 8;
$_->wait for @r;
whole('followers=3: all are served', @r);
my $n = $mock->stats->{requests};
cmp_ok $n, '>=', 2, "by more than one call: $n";
cmp_ok $n, '<', 8, 'but not all alone';


# the leader's client goes

for my $shape ([ 'a stream', stream => 1 ], [ 'JSON' ]) {
    my ($name, @shape) = @$shape;

    begin("$name, client gone before a byte");
    $leader = lead(0, @shape);
    @r = follow(6, @shape);
    $leader->abort;
    $_->wait for @r;
    equal("$name: the leader's client leaves before a byte", @r);
    is +(grep { outcome($_) eq 'whole' } @r), 6, "$name: nobody notices";
    calls(1, "$name: one call");
}

begin('client gone in the middle');
$leader = lead(0, stream => 1);
@r = follow(6, stream => 1);
$leader->wait_events(10);
$leader->close;
$_->wait for @r;
whole('the leader\'s client leaves in the middle', @r);
equal('nobody notices', @r);
calls(1, 'one call');

begin('all gone');
$leader = lead(0, stream => 1);
@r = follow(3, stream => 1);
$leader->wait_events(3);
$leader->close;
$r[$_]->close for 0, 1;
$r[2]->wait_events(8);
$r[2]->close;
ok $mock->wait(client_closed => 1), 'when all have left, the call is ended';

begin('a follower in time');
$leader = lead(0);
my ($hasty) = follow(1, headers => { 'x-request-timeout-ms' => 100 });
$_->wait for $leader, $hasty;
is $hasty->status, 504, 'a follower whose time is up';
is outcome($leader), 'whole', 'leaves the leader alone';


# the leader's worker dies

for my $first (0, 1) {
    begin("worker dies $first");
    $leader = lead(0, stream => 1);
    @r = map { $t->on($worker[$_ % 2], text(), stream => 1) } 1 .. 8;
    followers(8);
    $first ? $r[0]->wait_events(10) : $mock->wait(requests => 1);

    $t->kill_worker('KILL', $worker[0]);
    $_->wait for $leader, @r;

    my @left = @r[grep { !($_ & 1) } 0 .. 7];
    my $named = $first ? 'in the middle' : 'before a byte';

    is_deeply [map { outcome($_) } @left],
        [($first ? 'broken' : 'whole') x 4],
        "the leader's worker is killed $named: one outcome each";
    is +(grep { $_->complete } $leader, @r[grep { $_ & 1 } 0 .. 7]), 0,
        'and none for those it served';
    calls($first ? 1 : 2, 'as many calls as there had to be');
    equal('of one and the same', @left) if !$first;

    @worker = $t->workers;
}

quiet('after workers died');


# the provider fails

begin('reset in the middle', cut => 'rst', cut_events => 12);
$leader = lead(0, stream => 1);
@r = follow(6, stream => 1);
$_->wait for $leader, @r;
is_deeply [map { outcome($_) } $leader, @r], [('broken') x 7],
    'a call that breaks off ends with one error event for each';
calls(1, 'and there is no other');

for my $shape ([ 'a stream', stream => 1 ], [ 'JSON' ]) {
    my ($name, @shape) = @$shape;

    begin("503, $name");
    $mock->script({ times => 1, delay_ms => 300, status => 503 }, { @rule });
    $leader = lead(0, @shape);
    @r = follow(6, @shape);
    $_->wait for $leader, @r;
    is $leader->status, 503, "$name: the leader is told of a 503";
    is_deeply [map { outcome($_) } @r], [('whole') x 6],
        "$name: each follower tries for itself";
    calls(7, "$name: alone");
}

begin('error event', error_event => 12);
$leader = lead(0, stream => 1);
@r = follow(6, stream => 1);
$_->wait for $leader, @r;
is_deeply [map { outcome($_) } $leader, @r], [('broken') x 7],
    'an error event of the provider is for each';
equal('as it is', $leader, @r);
calls(1, 'one call');

begin('error event first', error_event => 0);
$leader = lead(0, stream => 1);
@r = follow(6, stream => 1);
$_->wait for $leader, @r;
is +(grep { $_->status >= 500 && $_->json->{error} } $leader, @r), 7,
    'one at the start is an error for each';
calls(7, 'who tries');

begin('no [DONE]', no_done => JSON::PP::true);
$leader = lead(0, stream => 1);
@r = follow(6, stream => 1);
$_->wait for $leader, @r;
equal('a stream without [DONE] is the same for all', $leader, @r);
is $r[0]->text, $content, 'and whole';
calls(1, 'one call');


# all events, and then neither an end nor more: the gateway has asked for usage
begin('silent behind [DONE]', cut => 'hang', cut_events => 2
    + @{$leader->events});
$leader = lead(0, stream => 1);
@r = follow(2, stream => 1, headers => { 'x-request-timeout-ms' => 900 });
$_->wait for @r;
is +(grep { error_events($_) && grep { $_ eq '[DONE]' } $_->data } @r), 0,
    'no error event behind [DONE]';
is_deeply [map { $_->text } @r], [($content) x 2], 'but the whole answer';
$leader->close;

begin('time is up before a byte', delay_ms => 600);
$leader = lead(0, stream => 1, headers => { 'x-request-timeout-ms' => 300 });
@r = map { $t->on($worker[$_ % 2], text(), stream => 1) } 1 .. 6;
$_->wait for $leader, @r;
is $leader->status, 504, 'who has less time than others';
whole('does not call for them', @r);
calls(2, 'but one of them does');

begin('time is up in the middle', pace_ms => 30);
$leader = lead(0, stream => 1, headers => { 'x-request-timeout-ms' => 800 });
@r = map { $t->on($worker[$_ % 2], text(), stream => 1) } 1 .. 6;
$_->wait for $leader, @r;
is outcome($leader), 'broken', 'whose time is up in the middle';
whole('does not harm the others', @r);
calls(2, 'who share a call');

begin('large JSON', content_bytes => 2_500_000);
$leader = lead(0);
@r = follow(4);
$_->wait for $leader, @r;
is +(grep { $_->complete && length(($_->json // {})->{choices}[0]{message}
    {content} // '') == 2_500_000 } $leader, @r), 5,
    'an answer that is too large to be held: each has it';

begin('retries');
$mock->script({ times => 2, delay_ms => 200, status => 503 }, { @rule });
my @spec = (port => $t->port('PORT_RETRY'), stream => 1);
$leader = $t->start_chat(text(), @spec);
$mock->wait(requests => 1);
@r = follow(5, @spec);
$_->wait for $leader, @r;
whole('a leader that has to try again', $leader, @r);
equal('with those who follow it', $leader, @r);
calls(3, 'tries');

begin('retries alone');
$mock->script({ times => 1, delay_ms => 300, status => 503 }, { @rule });
$leader = $t->start_chat(text(), @spec);
$mock->wait(requests => 1);
@r = follow(5, @spec);
$leader->close;
$_->wait for @r;
whole('a leader whose client leaves before it has to try again', @r);

begin('provider dies');
$dying->script({ @rule });
@spec = (stream => 1, model => 'dying');
$leader = $t->on($worker[0], text(), @spec);
$dying->wait(requests => 1);
@r = follow(6, @spec);
$leader->wait_events(5);
kill 'KILL', $dying->pid;
$_->wait for $leader, @r;
is_deeply [map { outcome($_) } $leader, @r], [('broken') x 7],
    'the provider dies in the middle: an error event for each';
@r = map { $t->on($worker[$_ % 2], text(), @spec) } 1 .. 6;
$_->wait for @r;
is +(grep { outcome($_) =~ /^50[23]/ } @r), 6, 'and then an error for each';


# the leader waits in line

begin('in line');
my $hold = hold('one');
my $first = $t->start_chat(text(), key => 'one', stream => 1);
becomes('llm_slots_waiting', 1, 'a leader in line');
@r = follow(6, key => 'one', stream => 1);
is metric('llm_slots_waiting'), 1, 'those who follow it do not stand there';
$first->close;
becomes('llm_flight_followers', 5, 'its client leaves: another leads');
becomes('llm_slots_waiting', 1, 'and waits');
$hold->abort;
$_->wait for @r;
whole('until it has a slot', @r);
equal('for all of them', @r);
calls(2, 'by one call beside the first');

begin('refused');
$hold = hold('short');
$first = $t->start_chat(text(), key => 'short');
becomes('llm_slots_waiting', 1, 'a leader whose time in line is short');
@r = follow(6);
$_->wait for $first, @r;
is $first->status, 429, 'is refused';
is_deeply [map { outcome($_) } @r], [('whole') x 6], 'the others are not';
equal('but share a call', @r);
calls(2, 'of their own');
$hold->abort;


# what a follower is charged

begin('charged');
$mock->script({ times => 1, completion_tokens => 5000 }, { @rule });
$t->chat('spends', key => 'broke', body => { max_tokens => 5 });
is outcome($t->chat('more', key => 'broke', body => { max_tokens => 5 })),
    '429 rate_limit_exceeded', 'a key that has spent its tokens';
$mock->script({ @rule });
$leader = lead(0, key => 'rich');
@r = follow(5, key => 'broke');
$_->wait for $leader, @r;
is_deeply [map { outcome($_) } @r], [('whole') x 5], 'may still follow';
calls(1, 'a call of another key');
my ($rest) = sort { $a <=> $b } map {
    $_->header('x-ratelimit-remaining-requests') } @r;
is $rest, 1000 - 1 - 5, 'for a request each';


# who is slow

begin('slow leader', content_bytes => 900_000, chunks => 90);
@spec = (port => $t->port('PORT_SLOW'), stream => 1);
$leader = $t->start_chat(text(), @spec, rcvbuf => 4096, paused => 1,
    timeout => 30);
$mock->wait(requests => 1);
@r = follow(4, @spec);
$_->wait for @r;
is +(grep { complete_stream($_) } @r), 4, 'a leader whose client does not '
    . 'read: the others have their answer';
ok $mock->wait(done => 1), 'and the provider is through';
$leader->resume;
$leader->wait;
is $leader->body, $r[0]->body, 'then it has its own';
calls(1, 'by one call');

begin('slow follower', content_bytes => 900_000, chunks => 90);
$leader = $t->start_chat(text(), @spec);
$mock->wait(requests => 1);
($late) = follow(1, @spec, rcvbuf => 4096, paused => 1, timeout => 30);
@r = follow(4, @spec);
$_->wait for $leader, @r;
equal('a follower that does not read does not hold up the others', $leader,
    @r);
$late->resume;
$late->wait;
is $late->body, $leader->body, 'and has it all in the end';
calls(1, 'by one call');


# more than is kept

begin('above log', content_bytes => 3_000_000, chunks => 150);
$leader = lead(0, stream => 1);
@r = follow(4, stream => 1);
$leader->wait(sub { length $leader->body > 1_500_000 });
my $new = $t->on($worker[1], text(), stream => 1);
$_->wait for $leader, @r, $new;
is +(grep { complete_stream($_) } $leader, @r, $new), 6, 'an answer above '
    . '"log" is whole';
equal('for all who followed', $leader, @r);
calls(2, 'newcomers call for themselves');

begin('lagging', content_bytes => 2_000_000, chunks => 200);
@spec = (port => $t->port('PORT_LOG'), stream => 1);
$leader = $t->start_chat(text(), @spec);
$mock->wait(requests => 1);
($late) = follow(1, @spec, rcvbuf => 4096, paused => 1, timeout => 30);
@r = follow(2, @spec);
$_->wait for $leader, @r;
equal('a follower that lags is left behind', $leader, @r);
ok complete_stream($leader), 'by the others';
$late->resume;
$late->wait;
is error_events($late), 1, 'with one error event';
is +(grep { $_ eq '[DONE]' } $late->data), 0, 'and no [DONE]';
calls(1, 'one call');


# HTTP/2

begin('HTTP/2');
$leader = lead(0, stream => 1);
my $h2 = h2(10, text());
$_->wait for $leader;
ok $t->until(sub { $h2->() == 10 }, 10), 'ten followers of one connection';
equal('have what the leader has', $leader, map { bless { body => $_ },
    'Test::LLM::HTTP' } $h2->('bodies'));
calls(1, 'by one call');


# a reload

begin('reload', pace_ms => 40);
$leader = lead(0, stream => 1);
@r = follow(4, stream => 1);
$leader->wait_events(3);
$t->reload;
@worker = $t->workers;
push @r, follow(4, stream => 1);
$_->wait for $leader, @r;
whole('followers of old and new workers', $leader, @r);
equal('have the same', $leader, @r);
calls(1, 'by one call over a reload');


# many

my @before = map { memory($_) } @worker;

begin('many', delay_ms => 100, pace_ms => 0);

for my $round (1 .. 12) {
    $scene++;
    @r = crowd(100, $round & 1 ? (stream => 1) : ());
    my $bad = grep { outcome($_) ne 'whole' } @r;
    is $bad, 0, "round $round: a hundred whole answers" if $bad;
    @before = map { memory($_) } @worker if $round == 2;
}

calls(12, '1,200 requests');

for my $i (0, 1) {
    my $more = memory($worker[$i]) - $before[$i];
    cmp_ok $more, '<', 3000, "the memory of a worker: $more KB more"
        if !$t->sanitized;
}

quiet('at the end');


# no room for all the calls that are shared

is $t->quit, 0, 'nginx ends';
$t->nginx($t->{template}
    =~ s/llm_zone llm 16m %%ZONE%%;/llm_zone llm 16m flights=512k;/r);
@worker = $t->workers;

# at a pace that a busy machine keeps, too: who cannot read loses his place
begin('small', content_bytes => 12_000, chunks => 40, pace_ms => 20);
@r = map {
    my $text = text() . $_;
    map { $t->start_chat($text, stream => 1, timeout => 30) } 1 .. 3;
} 1 .. 80;
$_->wait for @r;
is +(grep { complete_stream($_) } @r), 240, 'a zone that is too small: all '
    . 'have their answer';
$n = $mock->stats->{requests};
cmp_ok $n, '>', 80, "by more calls: $n";
cmp_ok metric('llm_flight_full_total'), '>', 0, 'and it is counted';
quiet('a small zone');

done_testing;


# a scene has its own text, and its own rule of the mock

sub begin {
    my ($what, %rule) = @_;

    note $what;
    $scene++;

    my %all = (@rule, %rule);
    delete @all{qw(content chunk_bytes)} if $rule{content_bytes};

    $mock->script(\%all);
}


sub text { "scene $scene" }


# the leader, whose call has reached the provider

sub lead {
    my ($worker, @spec) = @_;

    my $r = $t->on($worker[$worker], text(), @spec);
    $mock->wait(requests => 1) or die "no call\n";

    return $r;
}


# those who follow it, on both workers

sub follow {
    my ($n, @spec) = @_;

    my $before = metric('llm_flight_followers');
    my %spec = @spec;
    my @r = map { $spec{port} ? $t->start_chat(text(), @spec)
        : $t->on($worker[$_ % 2], text(), @spec) } 1 .. $n;

    followers($before + $n);

    return @r;
}


sub followers {
    my ($n) = @_;

    $t->until(sub { metric('llm_flight_followers') >= $n }, 10)
        or diag("not $n followers: " . metric('llm_flight_followers'));
}


# as many at the same time, on both workers

sub crowd {
    my ($n, @spec) = @_;

    my $idle = $t->{idle} //= {};

    while (grep { @{$idle->{$_} // []} < $n / 2 } @worker) {
        my @c = map { $t->start_get('/healthz',
            port => $t->port('PORT_BOTH')) } 1 .. 10;
        $_->wait for @c;
        push @{$idle->{$_->header('x-pid')}}, $_ for @c;
    }

    my @r = map { $t->on($worker[$_ % 2], text(), @spec) } 1 .. $n;
    $_->wait for @r;

    # for the next crowd
    for my $r (grep { $_->{socket} } @r) {
        push @{$idle->{$r->header('x-pid')}}, $r;
    }

    return @r;
}


# something that keeps the only slot of a key

sub hold {
    my ($key) = @_;

    $mock->script({ match => { body => 'hold' }, hang => JSON::PP::true },
        { @rule });
    my $r = $t->start_chat("hold $scene", key => $key);
    $mock->wait(requests => 1) or die "no call\n";

    return $r;
}


# "whole": the answer and nothing else; "broken": its beginning and one error
# event; else what it is

sub outcome {
    my ($r) = @_;

    return 'no answer: ' . ($r->error // '?') if !$r->status;
    return $r->status . ' ' . ($r->json->{error}{code} // '-')
        if $r->status != 200;

    if (($r->header('content-type') // '') !~ /event-stream/) {
        my $said = ($r->json // {})->{choices}[0]{message}{content} // '';
        return $r->complete && $said eq $content ? 'whole'
            : 'JSON: ' . $r->body;
    }

    my @data = $r->data;
    my %id = map { /"id":"(chatcmpl-\w+)"/ ? ($1 => 1) : () } @data;
    my $done = grep { $_ eq '[DONE]' } @data;
    my $errors = error_events($r);
    my $text = $r->text;

    return 'mixed: ' . join ' ', sort keys %id if keys %id != 1;

    return 'whole' if $r->complete && $text eq $content && $done == 1
        && !$errors && $data[-1] eq '[DONE]';

    return 'broken' if !$done && $errors == 1 && $data[-1] =~ /"error"/
        && $text ne $content && index($content, $text) == 0;

    return sprintf 'stream: %d events, %d errors, %d [DONE], %d bytes of '
        . 'text, last: %s', scalar(@data), $errors, $done, length $text,
        $data[-1];
}


sub error_events {
    my ($r) = @_;
    return scalar grep { /^\{"error"/ } $r->data;
}


# of any content

sub complete_stream {
    my ($r) = @_;

    return ($r->status // 0) == 200 && $r->complete && !error_events($r)
        && (grep { $_ eq '[DONE]' } $r->data) == 1
        && ($r->data)[-1] eq '[DONE]';
}


sub whole {
    my ($what, @r) = @_;
    is_deeply [map { outcome($_) } @r], [('whole') x @r], $what;
}


sub equal {
    my ($what, @r) = @_;

    my %body = map { $_->body => 1 } @r;
    is scalar(keys %body), 1, $what;
}


sub calls {
    my ($n, $what) = @_;
    is $mock->stats->{requests}, $n, "$what: $n";
}


sub status_of { $_[0]->header('Cache-Status') // '' }
sub ended { $_[0]{start} + $_[0]->end }


# what the provider said, without the usage that nobody asked for

sub sent {
    $mock->script({ @rule, keep => JSON::PP::true, delay_ms => 0 });
    my $r = $t->chat('sent', stream => 1);

    my $id = ($r->data)[0] =~ /"id":"([\w-]+)"/ ? $1 : '';
    my $old = ($r[0]->data)[0] =~ /"id":"([\w-]+)"/ ? $1 : '';
    my $created = ($r[0]->data)[0] =~ /"created":(\d+)/ ? $1 : '';

    my $sent = $mock->sent(0);
    $sent =~ s/data: [^\n]*"choices":\[\],"usage":\{[^\n]*\n\n//;
    $sent =~ s/\Q$id\E/$old/g;
    $sent =~ s/"created":\d+/"created":$created/g;

    return $sent;
}


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub becomes {
    my ($name, $value, $what) = @_;
    ok $t->until(sub { metric($name) == $value }), $what
        or diag("$name: " . metric($name));
}


sub quiet {
    my ($what) = @_;

    becomes('llm_flights{state="open"}', 0, "$what: no call is open");
    becomes('llm_flights{state="kept"}', 0, "$what: none is kept");
    becomes('llm_flight_followers', 0, "$what: nobody follows");
    becomes('llm_flight_bytes', 0, "$what: the memory is free");
    becomes('llm_slots_in_use', 0, "$what: the slots are back");
    becomes('llm_ledger_tickets_used', 0, "$what: no ticket is left");
}


sub memory {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/status" or return 0;

    return join('', <$file>) =~ /^VmRSS:\s*(\d+)/m ? $1 : 0;
}


# n streams of one HTTP/2 connection; the sub gives how many have ended, or
# their bodies

sub h2 {
    my ($n, $text) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port('PORT_H2')) or die "connect: $!\n";
    my $frame = sub { pack('NCN', length($_[3]) << 8 | $_[0], @_[1, 2])
        . $_[3] };
    my $body = encode_json({ model => 'gpt-4o', stream => JSON::PP::true,
        messages => [{ role => 'user', content => $text }] });
    my $head = join '', map { pack 'C C/a C/a', 0, @$_ }
        [':method', 'POST'], [':scheme', 'http'], [':authority', 'localhost'],
        [':path', '/v1/chat/completions'],
        ['authorization', 'Bearer ' . $t->secret('user')];
    my ($in, %body, %ended) = ('');

    syswrite $socket, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . $frame->(4, 0, 0, pack 'nN', 4, 1 << 30)
        . $frame->(8, 0, 0, pack 'N', 1 << 30)
        . join '', map { $frame->(1, 4, 2 * $_ - 1, $head)
            . $frame->(0, 1, 2 * $_ - 1, $body) } 1 .. $n;

    return sub {
        return values %body if @_;

        while (IO::Select->new($socket)->can_read(0)) {
            sysread $socket, $in, 65536, length $in or last;
        }

        while (length $in >= 9) {
            my ($high, $low, $type, $flags, $id) = unpack 'nCCCN', $in;
            my $length = $high << 8 | $low;
            last if length $in < 9 + $length;

            my $payload = substr $in, 9, $length;
            substr($in, 0, 9 + $length) = '';

            $body{$id} .= $payload if $type == 0;
            $ended{$id} = 1 if $type < 2 && $flags & 1;
            syswrite $socket, $frame->(4, 1, 0, '') if $type == 4 && !$flags;
        }

        return scalar keys %ended;
    };
}
