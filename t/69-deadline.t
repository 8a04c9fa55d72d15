#!/usr/bin/perl

# One absolute deadline for all of a request: waiting in line, attempts that
# fail, the pauses between them and the attempt that does not end are taken
# from it; and when it is reached all is given back at once.
#
# Alone: a deadline is measured.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::LLM;


my $t = Test::LLM->new;
my $slack = $t->sanitized ? 0.5 : 0.1;
my $retry = 'llm_retry tries=5 base=200ms cap=200ms budget=100 floor=1000;
            llm_breaker off;';

my @asked = (headers => { 'x-request-timeout-ms' => 2000 });
my @told = (port => $t->port('PORT_TOTAL'));
my @both = ([ 'x-request-timeout-ms', @asked ], [ 'llm_timeout', @told ]);

# 0.6 s in line, two attempts of 0.2 s and behind each a pause of 0.25 s
my @failing = ({ times => 2, status => 503, delay_ms => 200,
    headers => { 'retry-after-ms' => 250 } });

my %hang = (hang => \1);

# name, what comes of it, rules, what is said

my @scenes = (
    (map { my ($way, @spec) = @$_;
        [ $way, '504 upstream_timeout', [ @failing, { %hang } ], @spec ],
        [ "no stream yet, $way", '504 upstream_timeout',
            [ @failing, { cut => 'hang', cut_at => 'head' } ], @spec,
            stream => 1 ],
        [ "a stream that goes on, $way", 'stream', [ @failing,
            { chunks => 1000, pace_ms => 20 } ], @spec, stream => 1 ],
        [ "a silent stream, $way", 'stream', [ @failing,
            { cut => 'hang', cut_events => 5 } ], @spec, stream => 1 ],
        [ "half an event, $way", 'stream', [ @failing,
            { cut => 'hang', cut_at => 1100 } ], @spec, stream => 1 ],
    } @both),
    [ 'a stream, no answer', '504 upstream_timeout',
        [ @failing, { %hang } ], @asked, stream => 1 ],
    [ 'half an answer', '504 upstream_timeout',
        [ @failing, { cut => 'hang', cut_at => 40 } ], @asked ],
    [ 'in line to the end', '429 queue_timeout', [ { %hang } ], @asked ],
    [ 'no room for a pause', '503 null', [ { status => 503, delay_ms => 100,
        headers => { 'retry-after-ms' => 1000 } } ], @asked ],
);

my $whole = 20_000;                 # tokens of a day

$t->key("key$_", team => "team$_", concurrency => 1, tokens_per_day => $whole)
    for 0 .. $#scenes;
$t->key('user');

my $mock = $t->gateway(
    redis => 0,
    location => $retry,
    http => "
    server {
        listen 127.0.0.1:%%PORT_TOTAL%%;
        location / { llm_gateway; $retry llm_timeout total=2s; }
        location /llm/mock/ {
            internal; proxy_pass http://mock/v1/; %%PROXY%%
        }
    }",
);

$mock->script(map { my $n = $_;
    { match => { body => "<holder$n>" },
      delay_ms => $scenes[$n][1] =~ /queue/ ? 2600 : 600 },
    map { { %$_, match => { body => "<late$n>" } } } @{$scenes[$n][2]}
} 0 .. $#scenes);


# all at a time: each key's only slot is taken, and somebody comes late

my @holder = map { chat($_, 'holder') } 0 .. $#scenes;
ok $mock->wait(requests => scalar @scenes), 'all slots are taken';

my @late = map { my (undef, undef, undef, @spec) = @{$scenes[$_]};
    chat($_, 'late', @spec, body => { max_tokens => 500 }) } 0 .. $#scenes;
my @next;

ok $t->until(sub {
    for my $n (0 .. $#scenes) {
        $next[$n] //= chat($n, 'next') if defined $late[$n]->end;
    }

    return !grep { !$next[$_] } 0 .. $#scenes;
}, 20), 'all have ended';

$_->wait for @holder, @next;

my $counted = $t->metric('llm_tokens_total{type="prompt"}')
    + $t->metric('llm_tokens_total{type="completion"}');
my $used = 0;

for my $n (0 .. $#scenes) {
    judge($n, @{$scenes[$n]});
}

is $used, $counted, 'and that is what was counted';
$t->all_back('at the end');

done_testing;


sub chat {
    my ($n, $who, @spec) = @_;
    return $t->start_chat("<$who$n>", key => "key$n", timeout => 30, @spec);
}


sub judge {
    my ($n, $name, $comes) = @_;

    my ($r, $next) = ($late[$n], $next[$n]);

    is $holder[$n]->status, 200, "$name: who had the slot was served";

    if ($name =~ /no room/) {
        # 0.6 + 0.1 + 1 + 0.1, and a second pause would be too long
        cmp_ok $r->end, '>=', 1.75, "$name: as soon as it is known";
    } else {
        cmp_ok $r->end, '>=', 1.9, "$name: not before its time: " . $r->end;
    }

    cmp_ok $r->end, '<=', 2 + $slack, "$name: in time: " . $r->end;

    my @records = sort { $a->{arrival_ms} <=> $b->{arrival_ms} }
        grep { $_->{body} =~ /<(?:holder|late)$n>/ } $mock->journal;
    my @at = map { $_->{arrival_ms} - $records[0]{arrival_ms} } @records;
    my $ends = join ' ', map { $_->{ended} // 'not ended' } @records;

    if ($comes =~ /queue/) {
        is scalar(@records), 1, "$name: nobody was asked";

    } elsif ($name =~ /no room/) {
        is $ends, 'done done done', "$name: two attempts";

    } else {
        is $ends, 'done done done client_closed',
            "$name: the provider's connection is closed";
        cmp_ok $at[1], '>=', 599, "$name: it was in line: $at[1] ms";
        cmp_ok $at[2] - $at[1], '>=', 449, "$name: the first pause was kept";
        cmp_ok $at[3] - $at[2], '>=', 449, "$name: and the second";
    }

    my $paid = paid($n);

    if ($comes eq 'stream') {
        cut_off($r, $name);

        # of what was streamed its prompt, and about a token for each piece
        my $pieces = grep { /"content":"[^"]/ } $r->data;
        cmp_ok $paid, '>', 60, "$name: what was streamed is paid";
        cmp_ok $paid, '<', 60 + 40 + 4 * $pieces,
            "$name: and no more: $paid for $pieces pieces";

    } else {
        is $r->status . ' ' . ($r->json->{error}{code} // 'null'), $comes,
            "$name: $comes";
        is $r->header('x-llm-attempts'), @records - 1, "$name: the attempts"
            if @records > 1;
        is $paid, 60, "$name: nothing is paid that did not run";
    }

    return if $comes =~ /queue/;

    is $next->status, 200, "$name: the slot is free";
    cmp_ok $next->end, '<', 0.1 + $slack, "$name: at once: " . $next->end;
}


# an error event is the last, and no good end follows

sub cut_off {
    my ($r, $name) = @_;

    my @all = map { eval { JSON::PP->new->utf8->decode($_) } } $r->data;

    is $r->status, 200, "$name: it had begun";
    ok !$r->complete, "$name: no good end";
    is scalar(@all), scalar(my @data = $r->data),
        "$name: all events are whole";
    is + ($all[-1] // {})->{error}{code}, 'upstream_timeout',
        "$name: the last is an error event";
}


# tokens of the key's day, told when there are not enough left

sub paid {
    my ($n) = @_;

    my $r = $t->chat('tally', key => "key$n",
        body => { max_tokens => $whole - 30 });
    my ($paid) = $r->body =~ /Used (\d+)/ or diag($r->body);

    $used += $paid // 0;

    return $paid // 0;
}
