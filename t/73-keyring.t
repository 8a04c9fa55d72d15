#!/usr/bin/perl

# A tenants file of a hundred thousand keys: a change comes into force as a
# whole, while requests go on; a worker that dies on the way, a broken file and
# a reload leave no gap; a file that is larger than its memory is refused.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use List::Util qw(max);
use Time::HiRes qw(time);

use Test::LLM;


my $keys = 100_000;

my $t = Test::LLM->new(workers => 2);
my $slow = $t->sanitized ? 5 : 1;

$t->key('user');
$t->gateway(redis => 0, zone => 'keys=40m');


# what is the same in all of them is made once

my $rows = join ",\n", map { sprintf '"k%d":{"team":"crowd","sha256":"%s",'
    . '"requests_per_minute":1000000,"concurrency":1000}', $_,
    sha256_hex($t->secret("k$_")) } 1 .. $keys;
my $user = sha256_hex($t->secret('user'));

sub text {
    my ($limit, $last) = @_;

    return "{\"teams\":{\"crowd\":{}},\n\"keys\":{$rows,\n\"user\":{"
        . "\"requests_per_minute\":$limit,\"sha256\":\"$user\"}"
        . ($last // '') . "}}\n";
}

sub ready { $t->get('/readyz', port => $t->port('PORT_ADMIN'))->body }


sub limit_is {
    my ($limit) = @_;

    my $r = $t->chat('x', key => 'user');
    return $r->status == 200
        && $r->header('x-ratelimit-limit-requests') == $limit;
}

sub change_to {
    my ($limit, $last) = @_;

    $t->write('tenants.json', text($limit, $last));
}


# requests by any of these keys, while something goes on

sub traffic {
    my ($until) = @_;

    my (%status, @live, $slowest);
    my $end = time + 30 * $slow;
    my $over;
    $slowest = 0;

    while (!$over || @live) {
        $over ||= $until->() || time > $end;

        for my $r (splice @live) {
            if (!$r->{end}) {
                push @live, $r;
                next;
            }

            $status{$r->status // $r->error}++;
            $slowest = max($slowest, $r->{end} - $r->{began});
        }

        while (!$over && @live < 8) {
            my $r = $t->start_chat('busy', key => 'k' . (1 + int rand $keys));
            $r->{began} = $r->{sent} // $r->{connected} // 0;
            push @live, $r;
        }

        Test::LLM::HTTP->idle(0.003);
    }

    return (join(' ', sort keys %status), $slowest, $status{200} // 0);
}


# the first time

change_to(1001);
ok $t->wait_log(qr/llm_tenants ".*": 100001 keys, 1 teams/, 20 * $slow),
    'a hundred thousand keys';
is $t->chat('x', key => 'k77777')->status, 200, 'one of them is known';
ok limit_is(1001), 'and the one that was there before has its new limit';
like ready(), qr/"keys":100001,"teams":1,/, 'readyz counts';


# changes during requests, as compared to none

my $stop = time + 1;
my ($codes, $calm) = traffic(sub { time > $stop });
is $codes, '200', 'requests';

for my $limit (1002 .. 1004) {
    my $seen = length $t->log;
    change_to($limit);

    my ($codes, $slowest, $n) = traffic(sub {
        substr($t->log, $seen) =~ /llm_tenants ".*": 100001 keys/ });

    is $codes, '200', "limit $limit: $n requests meanwhile, none refused";

    SKIP: {
        skip 'time is no measure', 1 if $t->sanitized;

        cmp_ok $slowest, '<', 0.05 + 3 * $calm, sprintf 'the slowest took '
            . '%.0f ms, without a change it is %.0f ms', 1e3 * $slowest,
            1e3 * $calm;
    }

    ok limit_is($limit), 'the change is in force';
}


# whoever loads it dies

for my $limit (1005 .. 1007) {
    change_to($limit);
    Test::LLM::HTTP->idle(0.35 + 0.2 * ($limit - 1005));

    for my $pid ($t->workers) {
        $t->kill_worker('KILL', $pid);
        is $t->chat('x', key => 'k' . (1 + int rand $keys))->status, 200,
            'a worker was killed, and the keys are there at once';
    }

    ok $t->until(sub { limit_is($limit) }, 20 * $slow),
        "limit $limit comes into force";
}

like ready(), qr/"keys":100001,"teams":1,/, 'all are there';


# broken at its very end

my $seen = length $t->log;
change_to(1008, ',"last":{"sha256":"abc"}');
ok $t->until(sub { substr($t->log, $seen) =~ /\[error\].*keys\.last\.sha256: /
    }, 20 * $slow), 'a broken file is told';
ok limit_is(1007), 'and changes nothing';

$seen = length $t->log;
change_to(1008, ',"k500":{"sha256":"' . 'ab' x 32 . '"}');
ok $t->until(sub { substr($t->log, $seen)
    =~ /\[error\].*line 100002, column \d+: duplicate object key/ },
    20 * $slow), 'so is a name that is there twice';
ok limit_is(1007), 'which changes nothing either';


# a reload reads it, too

change_to(1009);
my $begun = time;
my $reloaded;
($codes) = traffic(sub {
    return time > $reloaded + 0.5 if $reloaded;
    return 0 if time < $begun + 0.3;
    $t->reload;
    $reloaded = time;
    return 0;
});
is $codes, '200', 'a reload leaves no gap';
ok $t->until(sub { limit_is(1009) }, 20 * $slow), 'and takes a change over';


# no room for it

$t->token(ZONE => 'keys=1m');
my ($ok, $said) = $t->test_config($t->{template});
ok !$ok, 'a file that is too large for its memory';
like $said, qr/"keys=1024k" of llm_zone is too small for the 100001 keys/,
    'is refused';

$t->write('tenants.json', '{"keys":{"user":{"requests_per_minute":1011,'
    . "\"sha256\":\"$user\"}}}");
$t->reload($t->{template});
ok $t->until(sub { limit_is(1011) }, 20), 'a small one';

$seen = length $t->log;
change_to(1010);
ok $t->until(sub { substr($t->log, $seen)
    =~ /\[error\].*keys= of llm_zone is too small: there was room for \d+/ },
    20 * $slow), 'that grows is refused, too';
ok limit_is(1011), 'and the old one stays in force';

$t->write('tenants.json', '{"keys":{"user":{"requests_per_minute":1012,'
    . "\"sha256\":\"$user\"}}}");
ok $t->until(sub { limit_is(1012) }, 20), 'a smaller one is taken again';

done_testing;
