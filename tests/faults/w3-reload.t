#!/usr/bin/perl

# W3: nginx is reloaded again and again.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my $n = $ENV{TEST_LLM_LONG} ? 50 : 25;

my $f = Test::LLM::Fault->new(
    fault => 'W3, reload under load',
    method => "nginx -s reload, $n times, one a second, under 200 clients "
        . "of whom 40 have streams of 6 s (each sees several)",
    pass => "no request fails, no stream is cut, rated as ever\n"
        . 'in the end the old workers are gone within 10 s, the master is '
        . 'as large as after the first five reloads',
    clients => { stream => 100, json => 40 },
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'stream' || rand() < 0.3;
        return (headers => { 'X-Mock-Pace-Ms' => 600 });
    },
);

my ($t) = $f->all;
my ($reloads, $five) = (0, 0);

$f->warm(5);

while ($reloads < $n) {
    my $next = time + 1;
    my %old = map { $_ => 1 } $t->workers(1);

    kill 'HUP', $t->master;
    $reloads++;

    ok $f->run(20, sub {
        my @new = grep { !$old{$_} } $t->workers;
        return @new >= 2 && !grep { $old{$_} } $t->workers;
    }), "$reloads: new workers";

    $t->{expected} = [$t->workers];
    delete $t->{idle};

    $five = master() if $reloads == 5;
    $f->run($next - time) if $next > time;
}

$f->calm;
$f->rates;

ok $t->until(sub { 2 == (() = $t->workers(1)) }, 10),
    'the old workers are gone';

my $now = master();

cmp_ok $now, '<=', 1.1 * $five + 512, "the master has not grown: $five KB, "
    . "then $now" if !$t->sanitized;

done_testing;


sub master {
    open my $file, '<', '/proc/' . $t->master . '/status' or return 0;
    return (map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$file>)[0] // 0;
}
