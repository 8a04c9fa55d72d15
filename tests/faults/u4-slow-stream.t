#!/usr/bin/perl

# U4: streams that come byte by byte, pause, never end a line, or end lines in
# another way.  Every split of every byte: tests/unit/test_sse_chunk.c and
# t/50-stream.t; slow clients: t/52-stream-slow.t.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use MIME::Base64 qw(encode_base64);

use Test::LLM;
use Test::LLM::Fault;


my $line = 'data: {"choices":[{"index":0,"finish_reason":"stop","delta":{"content":"'
    . 'x' x (3 << 20) . "\"}}]}\n\ndata: [DONE]\n\n";

# what the mock does, and what it must come to

my %way = (
    bytes   => [{ slice => 1, slice_ms => 1 }, 'whole'],
    pairs   => [{ slice => 2, slice_ms => 1, eol => 'cr' }, 'whole'],
    cr      => [{ eol => 'cr' }, 'whole'],
    crlf    => [{ eol => 'crlf', slice => 7 }, 'whole'],
    pause   => [{ idle_at => 4, idle_ms => 500 }, 'whole'],
    gap     => [{ idle_at => 4, idle_ms => 60_000 }, 'broken'],
    newline => [{ body_base64 => encode_base64('data: {"choices":' . 'x' x
        3000, ''), headers => { 'content-type' => 'text/event-stream' } },
        'failed'],
    line    => [{ body => $line, headers => { 'content-type' =>
        'text/event-stream' } }, 'whole'],
);

my %is;

my $f = Test::LLM::Fault->new(
    fault => 'U4, slow and odd streams',
    method => "60 of 200 clients ask for streams that come in single bytes, "
        . "in pairs with CR, with CR, with CRLF in sevens,\n"
        . 'with a pause of 0.5 s, with a silence, without a line end, and '
        . 'with a line of 3 MB; between is 2 s',
    pass => "all but two are whole, byte for byte, with umlauts and an "
        . "emoji in them; a silence is an error event at 2 s, 5 % + 250 ms "
        . "at most for half of them\n"
        . 'no event at all is an error object; hundreds of MB of such '
        . "lines leave at most 16 MB in a worker\nall others as ever",
    location => 'llm_retry tries=1; llm_breaker off;
        llm_timeout between=2s;',
    # the allocator keeps up to twice the largest block that was given back
    room => 16 * 1024,
    clients => { json => 40, stream => 60, ill => 60 },
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'ill';

        my @ways = sort keys %way;

        # few of the large ones

        $slot->{way} = $ways[rand @ways];
        $slot->{way} = $ways[rand @ways] if $slot->{way} eq 'line';
        $slot->{stream} = 1;
        $slot->{body} = $line if $slot->{way} eq 'line';
        $slot->{answer} .= " \xc3\xa4\xc3\xb6\xc3\xbc \xf0\x9f\x98\x80";

        return (headers => { 'X-Fault' => $slot->{way} }, stream => 1);
    },
    each => sub {
        my ($slot, $is) = @_;
        return if $slot->{kind} ne 'ill' || !$way{$slot->{way}};
        $is{$slot->{way}}{$is}++;
    },
);

$f->warm;
%is = ();
$f->script(map { { match => { headers => { 'x-fault' => $_ } },
    %{$way{$_}[0]} } } sort keys %way);
$f->run(18);

ok $f->drain, 'all come to an end';

for my $way (sort keys %way) {
    is join(', ', sort keys %{$is{$way}}), $way{$way}[1], $way;
}

# how long the provider was borne with, as it saw that itself

my @gap = sort { $a <=> $b } gaps();

cmp_ok scalar @gap, '>', 10, 'streams fell silent';
cmp_ok $gap[0], '>=', 1.95, 'and were not ended too early';
cmp_ok $gap[@gap / 2], '<=', 2.35 + ($f->{hub}->sanitized ? 0.5 : 0),
    'nor late';

$f->script;
$f->calm;
$f->rates;

done_testing;


sub gaps {
    my ($r) = Test::LLM::HTTP->all({ port => $f->mock->control_port,
        timeout => 60, path => '/__mock/journal' });

    return map { /"first_ms":\s*([\d.]+),\s*"end_ms":\s*([\d.]+)/
        ? ($2 - $1) / 1000 : () } grep { /"x-fault":\s*"gap"/ }
        split /\{"index":/, $r->body;
}
