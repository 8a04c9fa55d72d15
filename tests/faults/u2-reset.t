#!/usr/bin/perl

# U2: a provider resets connections: before the header, behind it, within a
# JSON answer, and in the middle of a stream.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Test::LLM;
use Test::LLM::Fault;


my %way = (
    start => { cut => 'rst', cut_at => 'start' },
    head  => { cut => 'rst', cut_at => 'head' },
    half  => { cut => 'rst', cut_at => 90 },
    mid   => { cut => 'rst', cut_events => 4 },
);

my (@wrong, @broken);

my $f = Test::LLM::Fault->new(
    fault => 'U2, resets',
    method => '60 of 200 clients ask for a model of which each answer is '
        . 'reset: before its header, behind it, in JSON, after four events',
    pass => "before the first byte of an answer, and in JSON: the second "
        . "provider is asked, the client notices nothing\n"
        . "in a stream: the events so far, an error event, no [DONE]; not "
        . "stored in the cache\n"
        . 'charged tokens are within 10 % of what the providers sent; all '
        . 'others as ever',
    mocks => 2,
    routes => 'llm_provider backup uri=/llm/backup/;
        llm_route ill mock backup; llm_route * mock;',
    server => 'location /llm/backup/ { internal;
        proxy_pass http://%%MOCK2%%/v1/; %%PROXY%% }',
    location => 'llm_retry tries=1 base=1ms; llm_breaker off;',
    clients => { json => 30, stream => 60, leave => 0, ill => 60 },
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'ill';

        my @ways = $slot->{stream} ? qw(start head mid) : qw(start head half);

        $slot->{way} = $ways[rand @ways];
        return (headers => { 'X-Fault' => $slot->{way} });
    },
    each => sub {
        my ($slot, $is) = @_;
        return if $slot->{kind} ne 'ill';
        my $want = $slot->{way} eq 'mid' ? 'broken' : 'whole';
        push @wrong, "$slot->{way}: $is" if $is ne $want;
        push @broken, $slot->{text} if $is eq 'broken';
    },
);

$f->warm;
@wrong = ();

my ($charged) = $f->tokens;

$f->script(map { { match => { headers => { 'x-fault' => $_ } },
    delay_ms => 20, pace_ms => 5, %{$way{$_}} } } sort keys %way);

$f->run(12);

ok $f->drain, 'all come to an end';
is scalar(@wrong), 0, 'each gets what it should' or diag("@wrong[0 .. 9]");
cmp_ok scalar @broken, '>', 20, 'streams were reset';

# the mock's bill began anew with the script

my @after = $f->tokens;
my ($ours, $theirs) = ($after[0] - $charged, $after[1]);

cmp_ok abs($ours - $theirs), '<=', 0.1 * $theirs,
    "$ours tokens charged, $theirs sent";

# the same questions again: nothing of it was stored

$f->script;

my $stored = 0;

for my $text (@broken[0 .. 9]) {
    my $r = $f->any->chat($text, key => 'ill', model => 'ill',
        stream => 1, body => { max_tokens => 40 },
        headers => { 'X-Mock-Content' => 'something else' });

    $stored++ if $r->status != 200 || $r->text ne 'something else';
}

is $stored, 0, 'what was reset is in no cache';

$f->calm;
$f->rates;

done_testing;
