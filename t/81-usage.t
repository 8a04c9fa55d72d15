#!/usr/bin/perl

# The accounts: what the admin API tells is what the log says, line by line,
# and what the provider billed; after the death of workers, a reload and a
# restart; and of two gateways with one Redis.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);
use Time::HiRes qw(time);

use Test::LLM;


my $secret = 'sk-admin-' . sha256_hex('admin');

my @sums = qw(requests errors cache_hits prompt_tokens cached_tokens
    completion_tokens micro saved_micro);

my %common = (
    location => 'llm_cache on; llm_retry tries=1;
        access_log %%DIR%%/llm.log llm;',
    server => '%%BOTH%%',
    admin => 'location /admin/v1/ { llm_admin file:%%DIR%%/admin.secret; }',
    routes => 'llm_provider mock2 uri=/llm/mock/
            key=file:%%DIR%%/provider.key;
        llm_route gpt-* mock; llm_route nick mock:gpt-4o-mini;
        llm_route claude mock2:claude;',
);

my $http = 'llm_prices %%DIR%%/prices.json;
    log_format llm escape=json \'{"key":"$llm_key","team":"$llm_team",'
    . '"model":"$llm_model","provider":"$llm_provider","status":"$status",'
    . '"cache":"$llm_cache","prompt":"$llm_prompt_tokens",'
    . '"cached":"$llm_cached_tokens","completion":"$llm_completion_tokens",'
    . '"usd":"$llm_cost_usd","saved":"$llm_saved_usd"}\';';


alone();
fleet();

done_testing;


# one gateway, without Redis

sub alone {
    my $t = Test::LLM->new(workers => 2);

    rmdir $t->path('state');

    tenants($t);
    my $mock = gateway($t, "$http llm_state %%DIR%%/state;", redis => 0);

    is sums(usage($t)), '0 0 0 0 0 0 0 0', 'nothing yet';

    $mock->script({ prompt_tokens => 280, cached_tokens => 40,
        completion_tokens => 20 });

    crowd($t, 90);
    $t->chat('once more', key => 'lone') for 1 .. 8;

    equal($t, 'mixed requests');

    my ($in, $out) = $mock->billed;
    my $all = usage($t)->{total};
    is "$all->{prompt_tokens} $all->{completion_tokens}", "$in $out",
        'the tokens are those that the provider billed';
    cmp_ok $all->{cache_hits}, '>', 5, 'some were answered by the cache';
    cmp_ok $all->{errors}, '>', 5, 'some were errors';
    cmp_ok $all->{usd}, '>', 0, 'and it cost something';

    # by provider, and the model as the provider is asked

    my %rows = map { join(' ', map { $_ // '-' } @$_{qw(provider model)})
        => $_ } @{usage($t, group_by => 'model,provider', buckets => 'false')
        ->{data}};
    ok $rows{'mock gpt-4o-mini'}, 'a nickname is its model';
    ok $rows{'mock2 claude'}, 'another provider';

    # all periods tell the same

    is sums(usage($t, period => $_)), sums(usage($t)), "by $_"
        for qw(minute hour month);
    is sums(usage($t, period => $_, group_by => 'team,model')),
        sums(usage($t)), "by $_, team and model" for qw(minute hour);

    # a worker that is killed takes nothing along

    for (1 .. 3) {
        crowd($t, 12);
        $t->kill_worker('KILL', ($t->workers)[0]);
        equal($t, 'a worker was killed');
    }

    $t->reload;
    equal($t, 'after a reload');

    crowd($t, 10);
    equal($t, 'after more requests');

    # what is saved is there again

    my $before = rows($t);
    is $t->quit, 0, 'quit';
    ok -s $t->path('state/usage'), 'the accounts are saved';
    $t->start;
    is rows($t), $before, 'and put back';
    is sums(usage($t, period => $_)), sums(usage($t)), "by $_, too"
        for qw(hour month);
    crowd($t, 10);
    equal($t, 'they go on');

    # a file that is damaged is not believed

    is $t->quit, 0, 'quit';
    my $file = $t->read('state/usage');
    substr $file, 40, 1, chr(1 ^ ord substr $file, 40, 1);
    $t->write('state/usage', $file);
    $t->start;
    like $t->log, qr/"[^"]*usage" cannot be used/, 'the log says so';
    is sums(usage($t)), '0 0 0 0 0 0 0 0', 'the accounts begin anew';
    ok -s $t->path('state/usage.bad'), 'the file is kept';
}


# two gateways, one Redis

sub fleet {
    my ($x, $y) = map { Test::LLM->new(workers => 2) } 1, 2;

    tenants($x);

    my $redis = $x->redis;
    my $mock = $x->mock;

    for my $t ($x, $y) {
        $t->{tenants} = $x->{tenants};
        $t->write('tenants.json', $t->{tenants});
        $t->token(REDIS => $redis->url . ' timeout=500ms');
        $t->token(MOCK => $x->token('MOCK'));
        gateway($t, $http);
    }

    $mock->script({ prompt_tokens => 100, completion_tokens => 7 });

    crowd($_, 25) for $x, $y;

    my $own = qr/^(?!0 )/;
    like sums(usage($x, period => 'minute')), $own, 'minutes are there';
    is usage($x, period => 'minute')->{fleet}, 0, 'but of the gateway alone';

    for my $period (qw(day hour month)) {
        ok agree($x, $y, $x, $y, $period), "$period: both tell of both";
    }

    is usage($x)->{fleet}, 1, 'and say that they do';

    # a gateway that dies altogether, with its memory

    crowd($y, 10);
    ok agree($x, $x, $x, $y, 'day'), 'the first knows of the second';
    $y->kill_all;
    ok agree($x, $x, $x, $y, 'day'), 'still, when it is gone';
    $y->start;
    crowd($y, 5);
    ok agree($x, $y, $x, $y, 'day'), 'its old sums and its new ones';

    # Redis goes, forgets all and comes back

    $redis->stop('KILL');
    ok $x->until(sub { !usage($x)->{fleet} }, 10), 'without Redis: its own';
    crowd($x, 5);
    is sums(usage($x)), sums_of(lines($x)), '… and all of it';

    $redis->start;
    ok $x->until(sub { usage($x)->{fleet} }, 20), 'Redis is back';
    ok $x->until(sub { sums(usage($x)) eq sums(usage($y)) }, 20),
        'what it lost is written anew';
    crowd($_, 3) for $x, $y;
    ok $x->until(sub { sums(usage($x)) eq sums(usage($y)) }, 20),
        'they agree again';
}


sub tenants {
    my ($t) = @_;

    $t->team('red');
    $t->team('blue');
    $t->key('red1', team => 'red');
    $t->key('red2', team => 'red', models => ['gpt-4o']);
    $t->key('blue', team => 'blue', concurrency => 2);
    $t->key('lone');
    $t->key('poor', requests_per_day => 2);
}


sub gateway {
    my ($t, $http, %options) = @_;

    $t->write('admin.secret', "$secret\n");
    $t->write('prices.json', {
        'gpt-4o' => { input => 2.5, cached_input => 1.25, output => 10 },
        'claude*' => { input => 3, output => 15 },
    });

    return $t->gateway(%common, http => $http, %options);
}


# requests of all kinds, some at a time

my $serial = 0;

sub crowd {
    my ($t, $n) = @_;

    my @running;

    for (1 .. $n) {
        my $i = $serial++;
        my $key = (qw(red1 red2 blue lone poor))[$i % 5];
        my $model = (qw(gpt-4o gpt-4o nick claude nobody gpt-x))[$i % 6];
        my $text = $i % 4 ? "text $i" : 'the same';
        my %more;

        $more{stream} = 1 if $i % 3 == 0;
        $more{model} = $model;

        push @running, $t->start_chat($text, key => $key, %more);
        (shift @running)->wait if @running > 6;
    }

    $_->wait for @running;
}


sub get {
    my ($t, $path) = @_;

    my $r = Test::LLM::HTTP->start(%{$t->spec(GET => $path,
        port => $t->port('PORT_ADMIN'),
        headers => [Authorization => "Bearer $secret"])});
    $r->wait;

    return $r;
}


sub usage {
    my ($t, %query) = @_;

    my $r = get($t, '/admin/v1/usage?' . join '&',
        map { "$_=$query{$_}" } sort keys %query);

    my $usage = eval { $r->json } // {};
    diag $r->status . ': ' . ($r->body // '') if $r->status != 200;

    $_->{micro} = micro($_->{usd}), $_->{saved_micro} = micro($_->{saved_usd})
        for $usage->{total} // (), @{$usage->{data} // []};

    return $usage;
}


sub micro { sprintf '%.0f', 1e6 * ($_[0] || 0) }


sub sums {
    my ($usage) = @_;
    return join ' ', map { $_ // '-' } @{$usage->{total}}{@sums};
}


# lines of the log that are calls of a key

sub lines {
    my ($t) = @_;
    my $json = JSON::PP->new;

    return grep { $_->{key} } map { $json->decode($_) }
        split /\n/, $t->read('llm.log');
}


sub sums_of {
    my %sum = map { $_ => 0 } @sums;

    for (@_) {
        $sum{requests}++;
        $sum{errors} += $_->{status} >= 400;
        $sum{cache_hits} += $_->{cache} =~ /^(hit|joined|stale)$/;
        $sum{prompt_tokens} += $_->{prompt} || 0;
        $sum{cached_tokens} += $_->{cached} || 0;
        $sum{completion_tokens} += $_->{completion} || 0;
        $sum{micro} += micro($_->{usd});
        $sum{saved_micro} += micro($_->{saved});
    }

    return join ' ', @sum{@sums};
}


# "team key: sums", a line for each

sub rows {
    my ($t) = @_;

    return join "\n", sort map { ($_->{team} // '-') . ' ' . ($_->{key} // '-')
        . ': ' . join ' ', @$_{@sums} }
        @{usage($t, group_by => 'team,key', buckets => 'false')->{data}};
}


# line by line

sub equal {
    my ($t, $what) = @_;

    my ($rows, $logs);

    # the line of an answer that is there may not be

    $t->until(sub {
        my %lines;
        push @{$lines{($_->{team} || '-') . " $_->{key}"}}, $_ for lines($t);

        $rows = rows($t);
        $logs = join("\n", sort map { "$_: " . sums_of(@{$lines{$_}}) }
            keys %lines);

        return $rows eq $logs;
    }, 5);

    is $rows, $logs, "$what: the log and the accounts agree";
}


# what the gateways tell is what the logs say

sub agree {
    my ($a, $b, $x, $y, $period) = @_;

    my ($logs, $one, $other);

    # the line of an answer that is there may not be

    my $ok = $x->until(sub {
        $logs = sums_of(lines($x), lines($y));
        ($one, $other) = map { sums(usage($_, period => $period)) } $a, $b;
        return $one eq $logs && $other eq $logs;
    }, 10);

    diag "logs: $logs\none:  $one\nother: $other" if !$ok;

    return $ok;
}
