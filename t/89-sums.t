#!/usr/bin/perl

# Five hundred requests of all kinds by three teams with seven keys: tokens
# and money are the same, to the unit, in the log, the metrics, the admin API
# and llmctl, and are what the providers reported; through the death of a
# worker and a reload.  What an aborted stream is charged; budgets that are
# spent; models without a price; disks that are full.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA ();
use JSON::PP;
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Sums;


my $seed = $ENV{TEST_LLM_SEED} // int(time) % 100_000;
srand $seed;
note "TEST_LLM_SEED=$seed";

# the day must not end between two looks at it

my $left = 86_400 - time % 86_400;
Test::LLM::HTTP->idle($left + 1) if $left < 120;

my $small;
END { system 'umount', '-l', $small if $small }

mixed();
aborted();
budget();
any_model();
full_disk();

done_testing;


sub mixed {
    my $t = Test::LLM->new(workers => 2);
    my $s = Test::LLM::Sums->new(gateways => [$t]);

    $s->crowd(150);
    $s->equal('a part');

    $s->make('made1', team => 'red', tokens_per_day => 4000);
    $s->crowd(100);
    $s->make('made2', team => 'green');
    $s->crowd(50);
    $s->quiet($t);

    my $before = $s->usage($t)->{total};
    $t->kill_worker('KILL', ($t->workers)[0]);
    is_deeply $s->usage($t)->{total}, $before, 'a worker dies: all is there';

    $s->crowd(50);
    $s->equal('after the death of a worker');

    $s->crowd(50);
    $s->reload($t);
    $s->crowd(100);

    $s->equal('at the end');
    $s->everything($t);
    $s->reported(150);
    $s->kinds;
    $s->compared(10);

    $t->all_back('the crowd');
}


# What is charged of a stream that its client leaves: text by the model's
# ratio, between what the client had and what the provider had sent.

sub aborted {
    my $t = Test::LLM->new(workers => 2);
    my $s = Test::LLM::Sums->new(gateways => [$t]);
    my $mock = $s->{mocks}{first};

    # 400 bytes are 80 tokens, here and there; 40 pieces of the answer

    my @ask = (model => 'steady', stream => 1, key => 'red1', headers => {
        'x-mock-prompt-tokens' => 80, 'x-mock-completion-tokens' => 80,
        'x-mock-chunks' => 40, 'x-mock-chunk-bytes' => 10 });
    my $text = sub { sprintf '%-396s%04d', 'text', $_[0] };

    for (1 .. 8) {
        $_->wait for map { $t->start_chat($text->(++$s->{serial}), @ask) }
            1 .. 5;
    }

    my $headers = pop @ask;
    my ($charged, $billed) = (0, 0);
    my @wrong;

    for my $i (1 .. 24) {
        my $until = 1 + int rand 38;
        my @before = $mock->billed;

        my $r = $t->start_chat($text->(++$s->{serial}), @ask,
            { %$headers, 'x-mock-pace-ms' => 3 });
        $r->wait_events($until);
        $r->abort;
        $mock->wait(in_flight => 0);
        my $had = grep { /"content":"[^"]/ } $r->data;

        my $line;
        $t->until(sub { ($line) = grep { $_->{id} eq
            $r->header('x-request-id') } $s->lines }, 5);

        my $sent = ($mock->billed)[1] - $before[1];
        my $tokens = $line->{completion_tokens} || 0;

        $charged += $tokens;
        $billed += $sent;

        push @wrong, "prompt: $line->{prompt_tokens}"
            if abs($line->{prompt_tokens} - 80) > 2;
        push @wrong, "had: $had of 40, charged: $tokens, sent: $sent"
            if $tokens < 0.98 * 2 * $had - 1 || $tokens > 1.02 * $sent + 1;
    }

    is_deeply \@wrong, [], 'aborted streams: what came is charged';
    note "charged: $charged, by the provider: $billed";
    cmp_ok $charged, '<=', 1.02 * $billed + 24, 'not more than was sent';

    # before its answer: the prompt

    my $r = $t->start_chat($text->(0), @ask, { %$headers,
        'x-mock-delay-ms' => 5000 });
    $mock->wait(min_in_flight => 1);
    $r->close;

    my $line;
    $t->until(sub { ($line) = grep { $_->{model} eq 'steady'
        && $_->{status} == 499 } $s->lines }, 5);
    is $line->{completion_tokens}, 0, 'before the answer: no tokens of it';
    cmp_ok abs($line->{prompt_tokens} - 80), '<=', 2, 'but the prompt';

    $s->equal('aborted');
}


# a budget that is spent, and one that an answer has gone beyond

sub budget {
    my $t = Test::LLM->new(workers => 2);

    $t->team('whole', budget => { usd => 0.01, period => 'day' });
    $t->team('debt', budget => { usd => 0.004, period => 'month' });
    $t->key($_, team => $_) for qw(whole debt);
    $t->write('prices.json', { '*' => { input => 0, output => 10 } });

    my $mock = $t->gateway(redis => 0, http => 'llm_prices
        %%DIR%%/prices.json;');
    my $ask = sub { $t->chat('text', key => $_[0],
        body => { max_tokens => 250 }) };
    my $ratio = sub { $t->metric("llm_budget_used_ratio{team=\"$_[0]\"}") };

    $mock->script({ prompt_tokens => 9, completion_tokens => 250 });

    is $ratio->('whole'), 0, 'nothing is spent';

    for my $n (1 .. 4) {
        is $ask->('whole')->status, 200, 'a quarter of the budget';
        is $ratio->('whole'), $n / 4, "$n of 4 are told";
    }

    my $r = $ask->('whole');
    is $r->status, 429, 'all of it is spent';
    is $r->json->{error}{code}, 'insufficient_quota', 'and says so';
    is $r->header('x-should-retry'), 'false', 'there is no use in retrying';
    is $ratio->('whole'), 1, 'the ratio is 1';
    is $t->metric('llm_budget_used_usd{team="whole"}'), 0.01, 'in dollars';

    $mock->script({ prompt_tokens => 9, completion_tokens => 600 });
    is $ask->('debt')->status, 200, 'an answer that is longer than asked for';
    is $ratio->('debt'), 1.5, 'is paid all the same';
    $r = $ask->('debt');
    is $r->json->{error}{code}, 'insufficient_quota', 'the next is refused';
}


# models that nobody priced: by the default, or for nothing and counted

sub any_model {
    my $t = Test::LLM->new(workers => 1);
    my %prices = ('gpt-4o' => { input => 2, output => 10, batch_input => 1,
        batch_output => 5 });

    $t->write('prices.json', { %prices, '*' => { input => 7, output => 70,
        batch_input => 3.5 } });
    my $mock = $t->gateway(redis => 0, http => 'llm_prices
        %%DIR%%/prices.json;');
    my $cost = sub { $t->chat('text', model => $_[0])
        ->header('x-llm-cost-usd') };
    my $unpriced = sub { $t->metric('llm_unpriced_requests_total') };

    $mock->script({ prompt_tokens => 100, completion_tokens => 10 });

    is $cost->('gpt-4o'), '0.000300', 'batch prices are not those of calls';
    is $cost->('new'), '0.001400', 'the default';
    is $unpriced->(), 0, 'which is a price';

    # a broken one changes nothing

    $t->write('prices.json', { 'gpt-4o' => { input => 2, output => 10,
        batch_input => '1' } });
    ok $t->wait_log(qr/gpt-4o\.batch_input: expected a number/),
        'a batch price that is none';
    is $cost->('new'), '0.001400', 'what was there is in force';

    # without a default

    $t->write('prices.json', \%prices);
    $t->until(sub { $cost->('new') eq '0.000000' }, 5);

    my $before = $unpriced->();
    cmp_ok $before, '>', 0, 'without it requests are counted';
    is $cost->('newer'), '0.000000', 'and are free';
    is $cost->('gpt-4o'), '0.000300', 'others are not';
    is $unpriced->(), $before + 1, 'one is one';
}


# A disk that is full under the logs, the tenants file and what is kept: it
# is a small one of its own if that may be, else the log takes nothing.

sub full_disk {
    my $t = Test::LLM->new(workers => 2);
    my $dir = $t->path('small');

    mkdir $dir;
    chmod 0777, $dir;

    my $mounted = $> == 0 && system('mount -t tmpfs -o size=128k,mode=0777 '
        . "tmpfs $dir 2>/dev/null") == 0;
    $small = $dir if $mounted;
    my $log = $mounted ? "$dir/llm.log" : '/dev/full';

    # more than a page, so that a new one needs room

    my %long = (metadata => { text => 'x' x 5000 });
    $t->key('user');
    $t->key('long', %long);

    if ($mounted) {
        put("$dir/tenants.json", $t->read('tenants.json'));
        unlink $t->path('tenants.json');
        symlink "$dir/tenants.json", $t->path('tenants.json');
    }

    $t->gateway(redis => 0, location => "access_log $log;",
        http => $mounted ? "error_log %%DIR%%/error.log info;
            error_log $dir/error.log info; llm_state $dir/state;" : '');
    $t->allow(qr/No space left on device|llm\.log" was incomplete/);

    is $t->chat('with room')->status, 200, 'with room';

    if ($mounted) {
        ok $t->until(sub { -s $log }), 'a line in the log';
        put("$dir/filler", 'x' x 200_000);
        ok !put("$dir/more", 'x'), 'the disk is full';
    }

    my @status = map { $t->chat("text $_", $_ % 2 ? (stream => 1) : ())
        ->status } 1 .. 80;
    is "@status", '200 ' x 79 . '200', 'a full disk: requests go on'
        . ($mounted ? '' : ' (a file)');
    is $t->metric('llm_requests_total'), 81, 'and are counted';
    ok $t->wait_log(qr/write\(\) to.*(?:No space left|was incomplete)/),
        'the error log says so';

    SKIP: {
        skip 'no disk of its own', 6 if !$mounted;

        cmp_ok -s $log, '<', 81 * 80, 'lines are missing in the log';

        # a new tenants file that does not fit is half a file

        $t->{tenants}{keys}{new} = { %{$t->{tenants}{keys}{long}},
            sha256 => Digest::SHA::sha256_hex($t->secret('new')) };
        my $new = JSON::PP->new->canonical->encode($t->{tenants});

        ok !put("$dir/tenants.json", $new), 'a new tenants file has no room';
        ok $t->wait_log(qr/tenants\.json.*(?:line|expected)/),
            'what is there of it is refused';
        is $t->chat('old')->status, 200, 'the old one is in force';

        unlink "$dir/filler";
        ok put("$dir/tenants.json", $new), 'with room again';
        ok $t->until(sub { $t->chat('new', key => 'new')->status == 200 }, 5),
            'the new one is';
    }

    is $t->quit, 0, 'nginx ends as ever';
    system 'umount', $small if $mounted;
    undef $small;
}


# in place, as an editor that does not know better; false: there is no room

sub put {
    my ($file, $text) = @_;

    open my $out, '>', $file or return 0;
    my $whole = print $out $text;

    return close($out) && $whole;
}
