#!/usr/bin/perl

# Targets that name no model: each model has its own breaker, limits and
# times, and one that is ill does not take the others along; a provider that
# cannot be reached is that for all of them.  Names that clients make up drive
# out nothing.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new(workers => 2);
my $mock = $t->mock('--journal', 6000);
my $backup = $t->mock('--journal', 6000);

$t->key('user', requests_per_minute => 1_000_000, concurrency => 500);

$t->gateway(
    redis => 0,
    location => 'llm_retry tries=1;
        llm_breaker consecutive=4 ratio=0 eject=60s;',
    server => 'location /llm/backup/ {
            internal; proxy_pass http://%%MOCK2%%/v1/; %%PROXY%%
        }',
    routes => 'llm_provider backup uri=/llm/backup/;
        llm_route * mock backup;',
);

my ($r, $n);


# one model is broken

$mock->script({ match => { model => 'broken' }, status => 503 });
$backup->script;

by('mock', $_, 'at first') for qw(good other);
$t->chat("ill $_", model => 'broken') for 1 .. 6;
is state('mock:broken'), 1, 'broken: ejected';
is state('mock'), 0, 'broken: but not the provider';

$n = $mock->stats->{requests};
by('backup', 'broken', 'broken');
is $mock->stats->{requests}, $n, 'broken: it is left alone';
by('mock', $_, 'not broken') for qw(good other new);

# a 429 of one model is a cool-down of that one

$mock->script({ match => { model => 'limited' }, status => 429,
    headers => { 'retry-after' => '60' } });
$t->chat('limited', model => 'limited');
$n = $mock->stats->{requests};
by('backup', 'limited', 'limited');
is $mock->stats->{requests}, $n, 'limited: it cools down';
by('mock', 'good', 'limited: not the others');
is state('mock:limited'), 0, 'limited: and is not ejected';

# what is known of a model survives a reload

$t->reload;
by('backup', 'broken', 'reload: still ejected');
by('mock', 'good', 'reload: still well');


# made-up names are no models: nothing is known of them

$mock->script({ match => { model => 'made-up-*' }, status => 404 },
    { match => { model => 'odd-*' }, status => 400 });

for my $i (1 .. 40) {
    my @r = map { $t->start_chat('no', model => $_ % 2 ? "made-up-$i-$_"
        : "odd-$i-$_") } 1 .. 50;
    $_->wait for @r;
}

is rows(qr/made-up|odd/), 0, 'made up: none is kept';
is state('mock:broken'), 1, 'made up: what is known stays';
by('backup', 'broken', 'made up');
is state('mock'), 0, 'made up: and the provider is well';

# those that a provider answers are kept, but not without end, and never in
# the place of a target

$mock->script({ match => { model => 'broken' }, status => 503 });

for my $i (1 .. 40) {
    my @r = map { $t->start_chat('yes', model => "any-$i-$_") } 1 .. 50;
    $_->wait for @r;
}

cmp_ok rows(qr/mock:any-/), '<=', 100, 'any name: a bounded number is shown';
is state('mock'), 0, 'any name: the target is';
by('mock', 'any-1-1', 'any name: served');


# who cannot be reached is for no model

$mock->script;
$backup->script;
$mock->refuse;
$t->chat("gone $_", model => "gone-$_") for 1 .. 5;
is state('mock'), 1, 'refused: the provider is ejected';
is rows(qr/mock:gone-/), 0, 'refused: no model is blamed';
$mock->serve;
by('backup', 'good', 'refused: for all models');

$t->all_back('at the end');

done_testing;


sub by {
    my ($provider, $model, $what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $r = $t->chat("by $what", model => $model);
    is $r->header('x-llm-provider'), $provider,
        "$what: $model is served by $provider";
}


sub state { $t->metric(qq(llm_target_state{target="$_[0]"})) }


sub rows {
    my ($names) = @_;

    my $page = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    return scalar grep { /$names/ }
        $page =~ /^llm_target_state\{target="([^"]*)"\}/mg;
}
