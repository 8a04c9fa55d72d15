#!/usr/bin/perl

# U6: a provider answers 503 to everything for a while.  The budget and the
# breaker, measured by themselves: t/57-breaker.t.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


my ($ill, $eject, $floor) = (8, 4, 2);
my @good;

my $f = Test::LLM::Fault->new(
    fault => 'U6, 503 for a while',
    method => "a model of 60 of 200 clients is 503 for $ill s and then "
        . "well; llm_retry budget=20 floor=$floor, llm_breaker "
        . "eject=${eject}s",
    pass => "calls of it while it is ill: at most 1.2 for each request, and "
        . "the floor; ejected within 2 s, then a call at a time\n"
        . "who asks meanwhile gets the second provider's answer; back "
        . "within eject * 2 + 2 s of its recovery\n"
        . 'all others as ever, from the same provider',
    mocks => 2,
    routes => 'llm_provider backup uri=/llm/backup/;
        llm_route ill mock backup; llm_route gpt-4o mock;',
    server => 'location /llm/backup/ { internal;
        proxy_pass http://%%MOCK2%%/v1/; %%PROXY%% }',
    location => "llm_retry tries=3 base=5ms cap=20ms budget=20 floor=$floor;
        llm_breaker consecutive=20 eject=${eject}s max_eject=8s;",
    clients => { json => 40, stream => 60, ill => 60 },
    may => { ill => [qw(whole)] },
    each => sub {
        my ($slot, $is) = @_;
        push @good, [$slot->{began}, $slot->{r}->header('x-llm-provider')]
            if $slot->{kind} eq 'ill';
    },
);

$f->warm;
$f->run(1);
$f->script({ match => { model => 'ill' }, fail_for_ms => 1000 * $ill,
    status => 503 });

my $start = time;

@good = ();
$f->run($ill);

my $end = time;
my $asked = @good;
my $back;

# the share of the first provider of what was asked in the last second

$f->run(4 * $eject + 10, sub {
    my @late = grep { $_->[0] > time - 1 && $_->[0] > $end } @good;

    $back = time - $end if @late > 10 && !grep { $_->[1] ne 'mock' } @late;
    return defined $back;
});

ok defined $back, 'it is well again';
cmp_ok $back, '<', 2 * $eject + 3, sprintf 'after %.1f s', $back // 99;

my @all = calls();
my @while = grep { $_ < $ill } @all;
my @open = grep { $_ > 2 && $_ < $ill } @all;

note scalar(@while) . " calls of $asked requests, " . @open
    . ' of them after 2 s';
cmp_ok scalar @while, '<=', 1.2 * $asked + $floor * $ill,
    'its provider is not hit harder than that';
cmp_ok scalar @open, '<=', 12, 'it is left alone within 2 s, but for probes';

$f->calm;
$f->rates;

done_testing;


# when the first provider was called for the model, in seconds

sub calls {
    my ($r) = Test::LLM::HTTP->all({ port => $f->mock->control_port,
        timeout => 60, path => '/__mock/journal' });
    my ($since) = $r->body =~ /"since_ms":\s*([\d.]+)/;
    my @at;

    for my $record (split /\{"index":/, $r->body) {
        next if $record !~ /"model\\":\\"ill\\"/;
        push @at, ($1 - $since) / 1000
            if $record =~ /"arrival_ms":\s*([\d.]+)/;
    }

    return @at;
}
