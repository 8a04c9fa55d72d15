#!/usr/bin/perl

# A request that its client repeats joins its own first try: one call, one
# charge.  And streams that are taken up again where they were cut.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

# made at random, so that a lost or doubled piece shows
my @words = map { sprintf '<%d:%06x>', $_, rand 1 << 24 } 1 .. 40;
my $content = join '', @words;

my @rule = (content => $content, chunk_bytes => 16, delay_ms => 200,
    pace_ms => 10, prompt_tokens => 11, completion_tokens => 31);

my @count0 = (headers => { 'x-stainless-retry-count' => 0 });
my @count1 = (headers => { 'x-stainless-retry-count' => 1 });
my @idem = (headers => { 'Idempotency-Key' => 'stainless-node-retry-1' });

$t->key('user');
$t->key('colleague');
$t->key('small', requests_per_minute => 1, burst_requests => 100,
    tokens_per_minute => 1, burst_tokens => 60);

sub server {
    my ($port, $location) = @_;

    return <<EOT;
    server {
        listen 127.0.0.1:%%$port%%;
        access_log %%DIR%%/llm.log llm;
        location / { llm_gateway; llm_retry tries=1; $location }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }
EOT
}

my $mock = $t->gateway(
    location => 'llm_retry tries=1; llm_join on linger=1s;',
    server => '%%BOTH%% access_log %%DIR%%/llm.log llm;',
    http => 'log_format llm "$llm_request_id $llm_cache '
        . '[$llm_prompt_tokens] [$llm_completion_tokens] $status";'
        . server(PORT_OFF => 'llm_join off;')
        . server(PORT_ZERO => 'llm_join on linger=0;')
        . server(PORT_CACHE => 'llm_cache on; llm_join on linger=1s;')
        . server(PORT_RESUME => 'llm_join on resume=5s;')
        . server(PORT_BRIEF => 'llm_join on resume=1s;'),
);

my @worker = $t->workers;
my $scene = 0;
my $logged = 0;


# while the first try runs, whose client has given up

for my $shape ([ 'JSON' ], [ 'a stream', stream => 1 ]) {
    my ($name, @shape) = @$shape;

    for my $header ([ 'retry count', \@count0, \@count1 ],
        [ 'Idempotency-Key', \@idem, \@idem ])
    {
        my ($what, $one, $two) = @$header;

        begin("$name, $what");
        my $first = lead(@shape, @$one);
        $first->wait_events(5) if @shape;
        $first->abort;
        my $again = $t->on($worker[1], text(), @shape, @$two);
        $again->wait;
        is outcome($again), 'whole', "$name, $what: the second try has the "
            . 'whole answer';
        calls(1, 'by the call of the first');
        is +(grep { $_->{ended} eq 'done' } $mock->journal), 1,
            'which went on to its end';
        charged(1, 'and was charged once');
    }
}

# while the first one is still there, and a third
begin('three');
my $first = lead(stream => 1, @count0);
my @r = map { $t->on($worker[$_ % 2], text(), stream => 1, @count1) } 1, 2;
$_->wait for $first, @r;
equal('a third try has the same', $first, @r);
is outcome($first), 'whole', 'the whole answer';
calls(1, 'by one call');
charged(1, 'and one charge');

begin('a tight limit');
$first = lead(key => 'small', body => { max_tokens => 35 }, @count0);
$first->abort;
my $again = $t->chat(text(), key => 'small', body => { max_tokens => 35 },
    @count1);
is outcome($again), 'whole', 'the first try has reserved all tokens there '
    . 'are: the second one needs none';
charged(1, 'charged once');


# after its end

for my $shape ([ 'JSON' ], [ 'a stream', stream => 1 ]) {
    my ($name, @shape) = @$shape;

    begin("$name, after its end", delay_ms => 0);
    $first = $t->chat(text(), @shape, @count0);
    $again = $t->on($worker[1], text(), @shape, @count1);
    $again->wait;
    is outcome($again), 'whole', "$name, just ended: the second try has it";
    is $again->body, $first->body, 'as it was';
    calls(1, 'by one call');
    charged(1, 'and one charge');

    ok $t->until(sub { metric('llm_flights{state="kept"}') == 0 }, 4),
        'after linger nothing is kept';
    $again = $t->chat(text(), @shape, @count1);
    is outcome($again), 'whole', 'a third try then has an answer';
    isnt $again->body, $first->body, 'of its own';
    calls(2, 'by a second call');
}


# calls of their own

begin('others');
@r = (lead(@idem), $t->start_chat(text(), key => 'colleague', @idem),
    $t->start_chat(text() . ' ', @idem),
    $t->start_chat(text(), body => { seed => 1 }, @idem),
    $t->start_chat(text(), headers => { 'Idempotency-Key' => 'two' }),
    $t->start_chat(text()));
$_->wait for @r;
is +(grep { outcome($_) eq 'whole' } @r), 6, 'another key, body, member, '
    . 'Idempotency-Key, none';
calls(6, 'are calls of their own');
is scalar(keys %{{ map { $_->body => 1 } @r }}), 6, 'six answers';

begin('endpoints', delay_ms => 300);
my $say = { model => 'gpt-4o', input => text(), messages => [] };
@r = map { $t->start_post("/v1/$_", $say, key => 'user', @idem) }
    qw(embeddings responses);
$_->wait for @r;
calls(2, 'another endpoint');

begin('count 0');
@r = (lead(@count0), $t->start_chat(text(), @count0));
$_->wait for @r;
calls(2, 'a first try joins nobody');

begin('another shape');
@r = (lead(@count0), $t->start_chat(text(), stream => 1, @count1));
$_->wait for @r;
is +(grep { outcome($_) eq 'whole' } @r), 2, 'a stream is no retry of JSON';
calls(2, 'two calls');

begin('failed');
$mock->script({ times => 1, delay_ms => 200, status => 503 }, { @rule });
$first = lead(@count0);
$again = $t->start_chat(text(), @count1);
$_->wait for $first, $again;
is $first->status, 503, 'a first try that fails';
is outcome($again), 'whole', 'the second one calls for itself';
calls(2, 'two calls');

begin('broken', cut => 'rst', cut_events => 8);
$first = lead(stream => 1, @count0);
$first->wait;
$mock->script({ @rule });
$again = $t->chat(text(), stream => 1, @count1);
is outcome($again), 'whole', 'a first try that broke off is not kept';
calls(1, 'another call');


# a client that leaves without a word of retries

for my $shape ([ 'JSON' ], [ 'a stream', stream => 1 ]) {
    my ($name, @shape) = @$shape;

    for my $case ([ 'without the headers' ],
        [ 'with llm_join off', @count0, port => $t->port('PORT_OFF') ],
        [ 'with linger=0', @count0, port => $t->port('PORT_ZERO') ])
    {
        my ($what, @spec) = @$case;

        begin("$name, $what", delay_ms => 1500);
        $first = $t->start_chat(text(), @shape, @spec);
        $mock->wait(requests => 1);
        $first->abort;
        my $start = time;
        ok $mock->wait(client_closed => 1), "$name $what: the client leaves";
        cmp_ok time - $start, '<', 0.7, 'and the call is ended at once';
    }
}

begin('nobody comes again', delay_ms => 3000);
$first = lead(@count0);
$first->abort;
my $start = time;
ok $mock->wait(client_closed => 1), 'nobody comes again: the call is ended';
cmp_ok time - $start, '>', 0.9, 'after linger';
cmp_ok time - $start, '<', 2, 'and not much later';
quiet('nobody came');

begin('with a cache', pace_ms => 20);
my @cached = (stream => 1, port => $t->port('PORT_CACHE'));
$first = $t->start_chat(text(), @cached, @count0);
$first->wait_events(5);
$first->abort;
$again = $t->chat(text(), @cached, @count1);
is outcome($again), 'whole', 'with a cache it is the same';
calls(1, 'one call');
is outcome($t->chat(text(), @cached)), 'whole', 'and it is stored';
calls(1, 'still one call');

begin('worker dies', pace_ms => 30);
$first = lead(stream => 1, @count0);
$first->wait_events(5);
$t->kill_worker('KILL', $worker[0]);
@worker = $t->workers;
$first->wait;
$mock->script({ @rule });
$again = $t->chat(text(), stream => 1, @count1);
is outcome($again), 'whole', 'the first try\'s worker was killed: the second '
    . 'has an answer';
calls(1, 'of a call of its own');


# streams that are taken up again

my @resume = (stream => 1, port => $t->port('PORT_RESUME'));

for my $usage ('without usage', 'with usage') {
    my @more = $usage =~ /without/ ? ()
        : (body => { stream_options => { include_usage => JSON::PP::true } });

    begin("resume $usage", pace_ms => 20);
    $first = $t->start_chat(text(), @resume, @more);
    $first->wait_events(10);
    my $id = $first->header('x-request-id');
    my $seen = @{$first->events};
    $first->abort;

    $again = resume($id, $seen);
    is $again->status, 200, "a stream $usage that was cut is taken up again";
    like $again->header('Content-Type'), qr{^text/event-stream}, 'as a stream';
    is raw($first) . raw($again), outcome_of($first, $again),
        'the two parts are the whole';
    calls(1, 'of one call');
    charged(1, 'and one charge');

    # after its end
    my $all = resume($id, 0);
    is outcome($all), 'whole', 'all of it, after its end';
    is $all->body, raw($first) . $again->body, 'is the same';
    is +(grep { /"usage":\{/ } $all->data), @more / 2, $usage;
    my @all = map { $_->{raw} } @{$all->events};
    my $events = @all;

    for my $n (1, 7, $seen, $events - 1, $events, $events + 5) {
        my $rest = join '', map { "$_\n\n" } @all[$n .. $#all];
        is resume($id, $n)->body, $rest, "what is behind event $n";
        my $r = $t->get("/v1/streams/$id", key => 'user',
            port => $t->port('PORT_RESUME'),
            headers => { 'Last-Event-ID' => $n });
        is $r->body, $rest, 'also by Last-Event-ID' if $n == 7;
    }

    is resume($id)->body, $all->body, 'without a number: from the beginning';
    is outcome(resume($id, $_)), '400 -', "after=$_ is none"
        for '-1', 'x', '1x', '99999999999999999999999';
    is resume($id, 5, key => 'colleague')->status, 404,
        'another key has no stream of this id';
    is resume($id, 5, port => $t->port)->status, 404,
        'nor has a location without "resume"';
    is $t->get("/v1/streams/$id?after=5", port => $t->port('PORT_RESUME'))
        ->status, 401, 'nor who has no key';
    is resume("${id}x", 5)->status, 404, 'nor is there another id';
    calls(1, 'still one call');
}

is $t->chat('off', stream => 1)->status, 200, 'off by default';
my $other = $t->chat('off', stream => 1);
is outcome(resume($other->header('x-request-id'), 0)), '404 stream_not_found',
    'no stream is kept';

begin('two at a time', pace_ms => 20);
$first = $t->start_chat(text(), @resume);
$first->wait_events(5);
my $id = $first->header('x-request-id');
@r = map { start_resume($id, $_) } 0, 3, 12;
$_->wait for $first, @r;
is outcome($first), 'whole', 'a stream that others read at the same time';
is $r[0]->body, $first->body, 'they have the same';
is $r[1]->body, behind($first, 3), 'from where they wanted';
is $r[2]->body, behind($first, 12), 'also beyond what is there yet';
calls(1, 'one call');

$t->reload;
is resume($id, 20)->body, behind($first, 20), 'a reload does not lose it';
@worker = $t->workers;

begin('nobody resumes', pace_ms => 100);
$first = $t->start_chat(text(), stream => 1, port => $t->port('PORT_BRIEF'));
$first->wait_events(2);
$first->abort;
$start = time;
ok $mock->wait(client_closed => 1), 'nobody takes it up: the call is ended';
cmp_ok time - $start, '>', 0.9, 'after the time for it';

begin('too late');
$first = $t->chat(text(), stream => 1, port => $t->port('PORT_BRIEF'));
$id = $first->header('x-request-id');
is resume($id, 3, port => $t->port('PORT_BRIEF'))->body, behind($first, 3),
    'there for its time';
ok $t->until(sub { resume($id, 3, port => $t->port('PORT_BRIEF'))->status
    == 404 }, 4), 'and then gone';

begin('cut by the provider', cut => 'rst', cut_events => 8);
$first = $t->start_chat(text(), @resume);
$first->wait_head;
$again = start_resume($first->header('x-request-id'), 2);
$_->wait for $first, $again;
is +(grep { /^\{"error"/ } $again->data), 1, 'a call that breaks off: one '
    . 'error event for who took it up, too';
is +(grep { $_ eq '[DONE]' } $again->data), 0, 'and no [DONE]';

quiet('at the end');

done_testing;


# a scene has its own text, and its own rule of the mock

sub begin {
    my ($what, %rule) = @_;

    note $what;
    $scene++;
    $mock->script({ @rule, %rule });
    $logged = length $t->read('llm.log');
}


sub text { "scene $scene" }


# the first try, whose call has reached the provider

sub lead {
    my $r = $t->on($worker[0], text(), @_);
    $mock->wait(requests => 1) or die "no call\n";

    return $r;
}


# GET /v1/streams/{id}

sub start_resume {
    my ($id, $after, %spec) = @_;

    return $t->start_get("/v1/streams/$id"
        . (defined $after ? "?after=$after" : ''), key => 'user',
        port => $t->port('PORT_RESUME'), %spec);
}


sub resume {
    my $r = start_resume(@_);
    $r->wait;
    return $r;
}


# the whole events of an answer, as they came

sub raw {
    my ($r) = @_;
    return join '', map { "$_->{raw}\n\n" } @{$r->events};
}


sub behind {
    my ($r, $n) = @_;

    my @all = map { $_->{raw} } @{$r->events};

    return join '', map { "$_\n\n" } @all[$n .. $#all];
}


# both parts, if they make the answer

sub outcome_of {
    my ($one, $two) = @_;

    my @data = ($one->data, $two->data);
    my $text = $one->text . $two->text;

    return $text eq $content && (grep { $_ eq '[DONE]' } @data) == 1
        && $data[-1] eq '[DONE]' ? raw($one) . raw($two)
        : "not the answer: $text";
}


# "whole": the answer and nothing else; else what it is

sub outcome {
    my ($r) = @_;

    return 'no answer: ' . ($r->error // '?') if !$r->status;
    return $r->status . ' ' . (($r->json // {})->{error}{code} // '-')
        if $r->status != 200;

    if (($r->header('content-type') // '') !~ /event-stream/) {
        my $said = ($r->json // {})->{choices}[0]{message}{content} // '';
        return $r->complete && $said eq $content ? 'whole'
            : 'JSON: ' . $r->body;
    }

    my @data = $r->data;
    my %id = map { /"id":"(chatcmpl-\w+)"/ ? ($1 => 1) : () } @data;
    my $done = grep { $_ eq '[DONE]' } @data;
    my $errors = grep { /^\{"error"/ } @data;

    return 'whole' if $r->complete && keys %id == 1 && $done == 1 && !$errors
        && $r->text eq $content && $data[-1] eq '[DONE]';

    return sprintf 'stream: %d events, %d errors, %d [DONE], %d bytes of '
        . 'text, last: %s', scalar(@data), $errors, $done, length $r->text,
        $data[-1] // 'none';
}


sub equal {
    my ($what, @r) = @_;
    is scalar(keys %{{ map { $_->body => 1 } @r }}), 1, $what;
}


sub calls {
    my ($n, $what) = @_;
    is $mock->stats->{requests}, $n, "$what: $n";
}


# the log's lines of this scene that were charged, and what the provider has

sub charged {
    my ($n, $what) = @_;

    my @lines;
    my ($prompt, $completion) = $mock->billed;

    is "$prompt $completion", 11 * $n . ' ' . 31 * $n,
        'the provider has done its work once';

    $t->until(sub {
        @lines = grep { !/\[-\] \[-\]/ && !/^- / } split /\n/,
            substr $t->read('llm.log'), $logged;
        return @lines >= $n;
    });

    is_deeply [map { / (\[\d+\] \[\d+\]) / ? $1 : $_ } @lines],
        [('[11] [31]') x $n], $what;
}


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


sub becomes {
    my ($name, $value, $what) = @_;
    ok $t->until(sub { metric($name) == $value }, 8), $what
        or diag("$name: " . metric($name));
}


sub quiet {
    my ($what) = @_;

    becomes('llm_flights{state="open"}', 0, "$what: no call is open");
    becomes('llm_flights{state="kept"}', 0, 'none is kept');
    becomes('llm_flight_followers', 0, 'nobody follows');
    becomes('llm_flight_bytes', 0, 'the memory is free');
    becomes('llm_slots_in_use', 0, 'the slots are back');
    becomes('llm_ledger_tickets_used', 0, 'no ticket is left');
}
