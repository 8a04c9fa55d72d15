#!/usr/bin/perl

# U3: answers that are none: cut JSON, wrong lengths, chunks without an end,
# garbage, and compressed zeros.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use Compress::Raw::Zlib qw(WANT_GZIP Z_BEST_COMPRESSION);
use MIME::Base64 qw(encode_base64);

use Test::LLM;
use Test::LLM::Fault;


my %way = (
    cut     => { truncate => 100 },
    length  => { content_length => 5000, cut => 'close', cut_at => 200 },
    chunks  => { framing => 'chunked', cut => 'close', cut_at => 120 },
    garbage => { garbage => 3000 },
    bomb    => { body_base64 => encode_base64(bomb(16 << 20), ''), headers =>
        { 'content-encoding' => 'gzip', 'content-type' =>
            'application/json' } },
    split   => { raw => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
        . "Content-Length: 400\r\nContent-Type: "
        . "application/json\r\n\r\n{}\n" },
);

my (%is, @texts);

my $f = Test::LLM::Fault->new(
    fault => 'U3, answers that are none',
    method => '60 of 200 clients ask for a model that gives '
        . join(', ', map { { cut => 'half a JSON object', length =>
        'fewer bytes than it said', chunks => 'chunks without an end',
        garbage => 'garbage', bomb => '16 MB of zeros as gzip', split =>
        'two lengths' }->{$_} } sort keys %way),
    pass => "each gets 502 with an error object after its tries; nothing is "
        . "stored; no tokens are charged for it\n"
        . 'no worker grows; all others as ever',
    location => 'llm_retry tries=2 base=1ms budget=100 floor=1000; llm_breaker off;',
    clients => { json => 40, stream => 60, ill => 60 },
    may => { ill => [qw(whole failed)] },
    request => sub {
        my ($slot) = @_;
        return () if $slot->{kind} ne 'ill';

        $slot->{way} = (sort keys %way)[rand keys %way];
        $slot->{stream} = 0;
        return (model => "ill-$slot->{way}",
            headers => { 'X-Fault' => $slot->{way} });
    },
    each => sub {
        my ($slot, $is) = @_;
        return if $slot->{kind} ne 'ill';
        $is{$slot->{way}}{"$is " . $slot->{r}->status}++;
        push @texts, [@$slot{qw(text way)}];
    },
);

$f->warm;

my $before = charged();

%is = ();
@texts = ();
$f->script(map { { match => { headers => { 'x-fault' => $_ } },
    delay_ms => 20, delay_jitter_ms => 50, %{$way{$_}} } } sort keys %way);
$f->run(12);

ok $f->drain, 'all come to an end';

for my $way (sort keys %way) {
    is join(', ', sort keys %{$is{$way}}), 'failed 502', "$way: a 502";
}

is charged(), $before, 'and no token is charged';

$f->script;

my $stored = 0;

for my $asked (@texts[0 .. 11]) {
    my ($text, $way) = @$asked;
    my $r = $f->any->chat($text, key => 'ill', model => "ill-$way",
        body => { max_tokens => 40 },
        headers => { 'X-Mock-Content' => 'something else' });

    $stored++ if $r->body !~ /something else/;
}

is $stored, 0, 'nor is it in the cache';

$f->calm;
$f->rates;

done_testing;


# tokens of the models that are ill

sub charged {
    my ($t) = $f->all;
    my $n = 0;

    for my $way (sort keys %way) {
        my $tokens = $t->metric("llm_tokens_total{model=\"ill-$way\"}");
        $n += $tokens if $tokens > 0;
    }

    return $n;
}


sub bomb {
    my ($size) = @_;

    my ($z) = Compress::Raw::Zlib::Deflate->new(-WindowBits => WANT_GZIP,
        -Level => Z_BEST_COMPRESSION);
    my ($out, $zeros) = ('', "\0" x (1 << 20));

    for (1 .. $size >> 20) {
        $z->deflate($zeros, my $some);
        $out .= $some // '';
    }

    $z->flush(my $rest);

    return $out . $rest;
}
