#!/usr/bin/perl

# X1: thousands of clients leave at one moment, in the middle of their streams.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib";

use IPC::Open2;
use List::Util qw(max);
use POSIX qw(_SC_CLK_TCK _SC_OPEN_MAX sysconf);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Fault;


# each is two sockets of one of two workers, one of the provider and of the
# client

my $files = sysconf(_SC_OPEN_MAX);
my $n = $ENV{TEST_NGINX_BINARY} ? 1500 : $ENV{TEST_LLM_LONG} ? 10_000 : 5000;

$n = int $files / 2 if $n > $files / 2;

my $f = Test::LLM::Fault->new(
    fault => 'X1, clients vanish',
    method => "$n clients from 19 addresses, each in the middle of a "
        . "stream, leave at once: by FIN, by RST, by FIN; beside 60 others",
    pass => "calls at the provider ended within 1 s, slots back within 2 s "
        . "(4 and 5 here, for a busy machine), with 2 s of processors at "
        . "most\n"
        . "charged is what had come of the streams, within 10 %, never "
        . "nothing\n"
        . 'all others as ever; workers are after the third time as large as '
        . 'after the second',
    clients => { json => 20, stream => 24, cached => 0, rated => 16, line => 0,
        leave => 0 },
    redis => 0,
    location => 'llm_retry tries=1; llm_cache off;',
    teams => sub { $_[0]->key('vanish', concurrency => 2 * $n) },
);

my ($t) = $f->all;

# as many connections as that takes

$t->reload($t->{template} . "\nevents { worker_connections 30000; }\n");

my $secret = $f->{hub}->secret('vanish');
my %stream = (match => { model => 'vanish' }, chunks => 40, chunk_bytes => 20,
    prompt_tokens => 10, completion_tokens => 40);

# what its tokens are in bytes

$f->mock->script({ %stream });
$t->chat(sprintf('<vanish-%05d>', $_), key => 'vanish', model => 'vanish',
    stream => 1) for 1 .. 40;

$f->script({ %stream });
$f->warm;

for my $round (1 .. 3) {
    my $way = $round == 2 ? 'rst' : 'fin';
    my ($first) = $f->tokens;
    my $before = vanished();

    $f->script({ %stream, idle_at => 5, idle_ms => 600_000 });

    my $pid = open2(my $out, my $in, "$FindBin::Bin/vanish.py",
        $t->port('PORT_BOTH'), $n, $way, "Bearer $secret", 'vanish');

    # lines of it, while the others go on

    my $line = sub {
        my ($patience) = @_;
        my $text = '';

        $out->blocking(0);
        $f->run($patience, sub {
            my $got = <$out>;
            $text .= $got // '';
            return $text =~ /\n/;
        });

        return $text;
    };

    my $said = $line->(45);

    is $said, "ready $n\n", "$way: all have a stream";

    if ($said eq '') {
        kill 'KILL', $pid;
        last;
    }

    my $watch = $f->watch('alive', 4, 1000);

    $f->run(0.3);
    my $cpu = cpu();

    print $in "go\n";
    $in->flush;
    is $line->(20), "gone\n", "$way: and leave";

    my $gone = time;

    ok $f->run(15, sub { $f->mock->stats->{in_flight} < 100 }),
        "$way: the provider is left alone";
    my $left = time - $gone;

    ok $f->run(15, sub { $t->metric('llm_slots_in_use') < 100 }),
        "$way: the slots are back";
    my $back = time - $gone;

    $cpu = cpu() - $cpu;
    waitpid $pid, 0;
    note sprintf '%s: calls ended after %.2f s, slots back after %.2f s, '
        . '%.2f s of processors', $way, $left, $back, $cpu;

    if (!$t->sanitized) {
        cmp_ok $left, '<', 4, "$way: soon";
        cmp_ok $back, '<', 5, "$way: both";
        cmp_ok $cpu, '<', 2, "$way: with little work";
    }

    my $r = $watch->();

    is $r->{ok}, $r->{requests}, "$way: no worker was away";
    cmp_ok $r->{latency}{p50}, '<', 500_000, "$way: most are served at once"
        if !$t->sanitized;

    ok $f->drain, "$way: all others come to an end";
    $f->{hub}->until(sub { $t->metric('llm_slots_in_use') == 0 }, 10);

    # the others are charged to the token, so the rest is theirs

    my ($charged, $billed) = $f->tokens;
    my $ours = vanished() - $before;
    my $theirs = $billed - ($charged - $first - $ours);

    note "$way: $ours tokens charged, $theirs billed";
    cmp_ok $ours, '>=', 11 * $n, "$way: each is charged for its prompt and more";
    cmp_ok abs($ours - $theirs), '<=', 0.1 * $theirs,
        "$way: what came, within a tenth";

    # what the allocator keeps of so many it keeps

    $f->{memory} = max($f->memory) if $round == 2;
}

$f->script;
$f->calm;
$f->rates;

done_testing;


sub vanished {
    my $tokens = $t->metric('llm_tokens_total{model="vanish"}');
    return $tokens < 0 ? 0 : $tokens;
}


# seconds of processors that the workers have had

sub cpu {
    my $ticks = 0;

    for my $pid ($t->workers) {
        open my $file, '<', "/proc/$pid/stat" or next;
        my @of = split / /, (<$file> =~ s/^.*\) //r);
        $ticks += $of[11] + $of[12];
    }

    return $ticks / sysconf(_SC_CLK_TCK);
}
