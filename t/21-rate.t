#!/usr/bin/perl

# Requests per minute: how many pass, what the next one is told, and that
# what was refused took nothing; with two workers.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX qw(ceil);

use Test::LLM;


my $t = Test::LLM->new(workers => 2);

$t->key('five', requests_per_minute => 5);
$t->key('minute', requests_per_minute => 1);
$t->key('burst', requests_per_minute => 60, burst_requests => 2);
$t->key('both', requests_per_minute => 10);
$t->key('crowd', requests_per_minute => 10);
$t->key('wrong', requests_per_minute => 2, models => ['gpt-4o']);
$t->key('full', requests_per_minute => 3, concurrency => 1,
    queue => { size => 1 });
$t->key('late', requests_per_minute => 3, concurrency => 1,
    queue => { timeout_ms => 100 });
$t->key('free');

$t->team('small', requests_per_minute => 3);
$t->key('first', team => 'small', requests_per_minute => 5);
$t->key('second', team => 'small');

$t->team('large', requests_per_minute => 3);
$t->key('tiny', team => 'large', requests_per_minute => 1);
$t->key('other', team => 'large');

my $mock = $t->gateway(server => '%%BOTH%%');

my @workers = $t->workers;
my ($r, @r);


# a chat request on worker 0 or 1

sub on {
    my ($worker, $key) = @_;
    return $t->on($workers[$worker], 'Hello', key => $key);
}


sub metric {
    my ($name) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return $page =~ /^\Q$name\E (\d+)$/m ? $1 : -1;
}


# the statuses of n requests, one after the other

sub statuses {
    my ($n, $key) = @_;
    return join ' ', map { $t->chat('Hello', key => $key)->status } 1 .. $n;
}


# milliseconds of "6m0s", "12s", "174ms"

sub duration {
    my ($text) = @_;

    return undef if $text !~ /^(?=\d)(?:(\d+)h)?(?:(\d+)m(?!s))?
        (?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?$/x;

    return (($1 // 0) * 3600 + ($2 // 0) * 60 + ($3 // 0)) * 1000
        + ($4 // 0);
}


sub refused {
    my ($r, $what, $limit, $least, $most) = @_;

    is $r->status, 429, "$what: 429";

    my $error = ($r->json // {})->{error} // {};

    is $error->{code}, 'rate_limit_exceeded', "$what: code";
    is $error->{type}, 'requests', "$what: type";
    ok exists $error->{param} && !defined $error->{param}, "$what: param";
    like $error->{message}, qr/Limit $limit, Used $limit, Requested 1\./,
        "$what: the message tells the limit and what was used";

    my $wait = $r->header('retry-after-ms');

    cmp_ok $wait, '>', $least, "$what: retry-after-ms";
    cmp_ok $wait, '<=', $most, "$what: retry-after-ms is not too long";
    is $r->header('retry-after'), ceil($wait / 1000),
        "$what: retry-after is in whole seconds";
    is $r->header('x-should-retry'), undef, "$what: waiting helps";

    my ($again) = $error->{message} =~ /Please try again in ([\d.hms]+?)\.$/;

    ok defined $again, "$what: the message tells when to come again";
    cmp_ok duration($again), '>=', $wait, "$what: at that time";
    cmp_ok duration($again), '<', $wait + 100, "$what: not much later";

    is $r->header('x-ratelimit-limit-requests'), $limit, "$what: limit";
    is $r->header('x-ratelimit-remaining-requests'), 0, "$what: remaining";
    is $r->header('x-llm-attempts'), 0, "$what: no attempt";
}


# five a minute

for my $i (1 .. 5) {
    $r = $t->chat('Hello', key => 'five');
    is $r->status, 200, "request $i of five";
    is $r->header('x-ratelimit-limit-requests'), 5, 'limit';
    is $r->header('x-ratelimit-remaining-requests'), 5 - $i, 'remaining';

    my $reset = duration($r->header('x-ratelimit-reset-requests'));

    ok $reset <= 12000 * $i && $reset > 12000 * $i - 5000,
        "reset in $reset ms";
}

$r = $t->chat('Hello', key => 'five');
refused($r, 'the sixth', 5, 7000, 12000);
my $reset = duration($r->header('x-ratelimit-reset-requests'));
ok $reset <= 60000 && $reset > 55000, 'full again in a minute';
is $mock->stats->{requests}, 5, 'which the provider has not seen';

$t->chat('Hello', key => 'minute');
refused($t->chat('Hello', key => 'minute'), 'one a minute', 1, 55000, 60000);

$t->reload;
is $t->chat('Hello', key => 'five')->status, 429, 'a reload forgives nothing';
@workers = $t->workers;


# who waits as long as he was told is served

is statuses(2, 'burst'), '200 200', 'a burst';
$r = $t->chat('Hello', key => 'burst');
refused($r, 'after the burst', 2, 100, 1000);
cmp_ok duration($r->header('x-ratelimit-reset-requests')), '<=', 2000,
    'two seconds until it is full';

my $wait = $r->header('retry-after-ms') / 1000;

Test::LLM::HTTP->idle($wait * 0.5);
is $t->chat('Hello', key => 'burst')->status, 429, 'too early';
Test::LLM::HTTP->idle($wait * 0.5);
is $t->chat('Hello', key => 'burst')->status, 200, 'after the wait';


# key and team

@r = map { $t->chat('Hello', key => $_) } qw(first second first);
is_deeply [map { $_->status } @r], [200, 200, 200],
    'three of a team of two keys';
is_deeply [map { $_->header('x-ratelimit-remaining-requests') } @r],
    [2, 1, 0], 'what remains is what remains of both';

for my $key ('second', ('first') x 5) {
    $r = $t->chat('Hello', key => $key);
    refused($r, "the team's is spent, $key", 3, 15000, 20000);
    like $r->json->{error}{message}, qr/team small/, 'the message names it';
}

$t->team('small', requests_per_minute => 6000);
ok $t->until(sub {
    my $r = $t->chat('Hello', key => 'second');
    return $r->status == 200
        && $r->header('x-ratelimit-limit-requests') == 6000;
}), 'the team may do more';
Test::LLM::HTTP->idle(0.6);
is statuses(4, 'first'), '200 200 200 429',
    'what the team refused has taken nothing from the key';

is statuses(4, 'tiny'), '200 429 429 429', 'a key that has spent its own';
is statuses(3, 'other'), '200 200 429',
    'has taken nothing more from the team';


# what is refused for another reason takes nothing

is $t->post('/v1/chat/completions', '{"model": ', key => 'wrong')->status,
    400, 'bad JSON';
is $t->chat('Hello', key => 'wrong', model => 'gpt-4.1')->status, 404,
    'a model of others';
is $t->get('/v1/models', key => 'wrong')->status, 200, 'a list of models';
is statuses(3, 'wrong'), '200 200 429', 'have taken nothing';

for my $case (['full', 'queue_full', 2], ['late', 'queue_timeout', 1]) {
    my ($key, $code, $held) = @$case;

    $mock->script({ hang => \1 });

    @r = $t->start_chat('Hello', key => $key);
    $mock->wait(in_flight => 1);
    push @r, map { $t->start_chat('Hello', key => $key) } 2 .. $held;
    $t->until(sub { metric('llm_slots_waiting') == $held - 1 });

    for (1 .. 4) {
        $r = $t->chat('Hello', key => $key);
        is $r->json->{error}{code}, $code, $code;
    }

    # who waits has taken nothing, who runs has its request

    $mock->script();
    $_->abort for @r[1 .. $#r];
    $t->until(sub { metric('llm_slots_waiting') == 0 });
    $r[0]->abort;
    $t->until(sub { metric('llm_ledger_tickets_used') == 0 });
    is statuses(3, $key), '200 200 429', "$code gives back what it took";
}


# two workers, one bucket

@r = map { my $r = on($_ % 2, 'both'); $r->wait; $r } 0 .. 11;
is_deeply [map { $_->status } @r], [(200) x 10, 429, 429],
    'two workers share a bucket';
is_deeply [map { $_->header('x-pid') } @r], [(@workers) x 6],
    'and both took part';

@r = map { on($_ % 2, 'crowd') } 0 .. 39;
$_->wait for @r;
is +(grep { $_->status == 200 } @r), 10, 'ten of forty at once';
is +(grep { $_->status == 429 } @r), 30, 'the others are refused';

is $t->chat('Hello', key => 'free')->status, 200, 'a key without a limit';

done_testing;
