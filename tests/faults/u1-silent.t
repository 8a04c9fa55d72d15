#!/usr/bin/perl

# U1: a provider accepts requests and never answers.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my $first = 1;

my $f = Test::LLM::Fault->new(
    fault => 'U1, a provider that never answers',
    method => "60 of 200 clients ask for a model that hangs, half of them "
        . "where a second provider has it\n"
        . 'then SIGSTOP of the first provider for 4 s; first_byte is 1 s',
    pass => "with a second provider: the answer, after one first_byte; "
        . "without: 504 with an error object, after as long\n"
        . "not before, and half of them at most 5 % + 250 ms later; all "
        . "others as ever; slots back\n"
        . 'stopped: all that ask meanwhile are answered by the second '
        . 'provider, streams go on afterwards',
    mocks => 2,
    routes => 'llm_provider backup uri=/llm/backup/;
        llm_route ill mock backup; llm_route lone mock:lone;
        llm_route gpt-4o mock backup;',
    server => 'location /llm/backup/ { internal;
        proxy_pass http://%%MOCK2%%/v1/; %%PROXY%% }',
    location => "llm_retry tries=1;
        llm_timeout first_byte=${first}000ms between=30s; llm_breaker off;",
    clients => { json => 30, stream => 50, ill => 60 },
    request => sub {
        my ($slot) = @_;
        my $lone = $slot->{kind} eq 'ill' && rand() < 0.5;
        $slot->{is} = $lone ? 'lone' : 'two';
        return $lone ? (model => 'lone') : ();
    },
    each => \&each_one,
);

# took: [seconds] of the ill by what they asked for

my (%took, @wrong);

$f->warm;
%took = ();

my @hang = map { { match => { model => $_ }, hang => \1 } } qw(ill lone);

$f->script(@hang);
$f->run(12);
ok $f->drain, 'all come to an end';
$f->judge('hang');

is "@wrong", '', 'each gets what it should';

for my $case (['two', 'tries the second provider'],
    ['lone', 'is told'])
{
    my ($is, $what) = @$case;
    my @t = sort { $a <=> $b } @{$took{$is} // []};
    my ($least, $half) = ($t[0] // 0, $t[@t / 2] // 99);

    note sprintf '%s: %d, from %.3f, half below %.3f s', $is, scalar @t,
        $least, $half;
    cmp_ok scalar @t, '>', 30, "$what: that happened";
    cmp_ok $least, '>=', 0.95 * $first, "$what: not too early";
    cmp_ok $half, '<=', 1.05 * $first + 0.25
        + ($is eq 'two' ? 0.2 : 0) + ($f->{hub}->sanitized ? 1 : 0),
        "$what: and not late";
}

# the first provider is stopped

$f->script(map { { %$_, hang => \0 } } @hang);
%took = ();
$f->run(2);
kill 'STOP', $f->mock->pid;
$f->run(4);
kill 'CONT', $f->mock->pid;
$f->run(1);

$f->calm;
$f->rates;

done_testing;


sub each_one {
    my ($slot, $is) = @_;

    return if $slot->{kind} ne 'ill';
    push @{$took{$slot->{is}}}, $slot->{r}->end if @hang && $slot->{r};

    my $status = $slot->{r}->status // 0;
    my $want = $slot->{is} eq 'lone' && $status != 200 ? 504 : 200;

    push @wrong, "$slot->{is}: $is, $status" if $status != $want;
    push @wrong, "$slot->{is}: no answer of the second provider"
        if $slot->{is} eq 'two' && $is ne 'whole';
}
