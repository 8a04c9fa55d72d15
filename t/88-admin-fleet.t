#!/usr/bin/perl

# Keys of the admin API in two gateways with one Redis: known and refused in
# both within a second, with or without what runs for them; whatever becomes
# of Redis, of the way to it, and of gateways and workers.

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::Proxy;


my $admin = 'sk-admin-' . sha256_hex('admin');
my $json = JSON::PP->new->canonical->ascii;

my ($x, $y, $redis, $proxy, $mock, @both);


fleet();

spread();
finish();
cut();
others();
away();
silent();
down();
emptied();
refusing();
deaths();
begin_without();
many();

is shown($x), shown($y), 'at the end both know the same';

done_testing;


# a change in one is in force in the other

sub spread {
    my @took;

    for my $n (1 .. 6) {
        my ($one, $other) = $n % 2 ? ($x, $y) : ($y, $x);
        my $secret = make($one, "quick$n");

        push @took, within($other, sub { with($other, $secret) == 200 },
            'a new key works in the other gateway');

        if ($n < 4) {
            api($one, DELETE => "/keys/quick$n");
            push @took, within($other, sub { with($other, $secret) == 401 },
                'a deleted one is refused');
            next;
        }

        api($other, PATCH => "/keys/quick$n", { enabled => JSON::PP::false });
        push @took, within($one, sub { with($one, $secret) == 403 },
            'a disabled one, too');
        api($one, DELETE => "/keys/quick$n");
    }

    note sprintf 'a change takes at most %.0f ms', 1000 * $_
        for (sort { $b <=> $a } @took)[0];

    my $old = make($x, 'turned');
    my $new = api($x, POST => '/keys/turned/rotate')->json->{secret};
    within($y, sub { with($y, $new) == 200 }, 'a rotated secret works');
    is with($y, $old), 401, 'the old one does not';
    api($x, POST => '/keys/turned/raise', { requests_per_minute => 77,
        until => int(time) + 600 });
    within($y, sub { (api($y, GET => '/keys/turned')
        ->json->{raises}[0]{value} // 0) == 77 }, 'a raise');

    is api($y, PUT => '/teams/lab', { concurrency => 9 })->status, 201,
        'a team';
    within($x, sub { api($x, GET => '/teams/lab')->status == 200 },
        'is known');
    is api($x, POST => '/keys', { name => 'mouse', team => 'lab' })->status,
        201, 'has keys in the other gateway';
    within($y, sub { api($y, DELETE => '/teams/lab')->json->{error} },
        'is in use');

    # the same name at both, at once: one of them makes it

    for my $n (1 .. 5) {
        my @r = map { start_api($_, POST => '/keys', { name => "race$n" }) }
            $x, $y;
        $_->wait for @r;
        is join(' ', sort map { $_->status } @r), '201 409',
            'one name, made once';
        is join(' ', map { $_->json->{error}{code} // () } @r), 'key_exists',
            'and the other hears of it';
        my ($made) = map { $_->json->{secret} // () } @r;
        within($_, sub { with($_[0], $made) == 200 }, 'it works in both')
            for $x, $y;
    }

    is shown($x), shown($y), 'both know the same';
    api($x, DELETE => "/keys/$_") for 'turned', 'mouse',
        map { "race$_" } 1 .. 5;
    within($y, sub { api($y, GET => '/keys/race5')->status == 404 },
        'and forget it');
}


# streams may go on …

sub finish {
    for my $query ('', '?streams=finish') {
        my $secret = make($x, 'calm');
        within($y, sub { with($y, $secret) == 200 }, 'a key');

        my @r = map { chat($_, $secret, "calm $query", stream => 1,
            headers => { 'x-mock-pace-ms' => 150 }) } @both;
        $_->wait_events(2) for @r;
        is api($x, DELETE => "/keys/calm$query")->status, 200,
            "deleted$query";
        within($_, sub { with($_[0], $secret) == 401 },
            'it is refused') for @both;
        $_->wait for @r;
        is last_of($_), '[DONE]', 'its stream goes on to its end'
            for @r;
    }
}


# … or end: streams, calls, those in line, those that share a call

sub cut {
    for my $how ('DELETE', 'PATCH') {
        my $secret = make($x, 'cut', concurrency => 8, team => 'search');
        within($y, sub { with($y, $secret) == 200 }, 'a key');
        $mock->script({ match => { body => 'slow' }, delay_ms => 60000 },
            { match => { body => 'stream' }, chunks => 1000,
                pace_ms => 50 });

        # eight slots over both gateways: two streams, two calls, two streams
        # that share a call with one of them, the rest wait

        my (%r, @all);
        for my $t (@both) {
            my $own = $t == $x ? 'x' : 'y';
            push @{$r{stream}}, chat($t, $secret, "stream $own", stream => 1);
            push @{$r{call}}, chat($t, $secret, "slow $own");
        }
        $_->wait_events(2) for @{$r{stream}};
        $mock->wait(min_in_flight => 4);
        for my $t (@both) {
            my $own = $t == $x ? 'x' : 'y';
            push @{$r{shared}}, chat($t, $secret, "stream $own", stream => 1);
        }
        $_->wait_events(1) for @{$r{shared}};
        my $n = 0;
        push @{$r{line}}, map { chat($_, $secret, 'slow line ' . ++$n) }
            (@both) x 4;
        ok $x->until(sub { $x->metric('llm_slots_waiting')
            + $y->metric('llm_slots_waiting') > 0 }), 'some are in line';
        my $body = start_body($y, $secret);

        my $start = time;
        my $r = $how eq 'DELETE'
            ? api($x, DELETE => '/keys/cut?streams=cut')
            : api($x, PATCH => '/keys/cut?streams=cut',
                { enabled => JSON::PP::false });
        is $r->status, 200, "$how with streams=cut";

        for my $kind (sort keys %r) {
            for my $r (@{$r{$kind}}) {
                $r->wait(undef, 5);
                ok $r->end, "$kind: it ends";
                cmp_ok $r->{start} + ($r->end // 99) - $start, '<', 1,
                    'within a second';
                refused($r, $kind);
            }
        }

        # each worker looks four times a second, so all have by now
        Test::LLM::HTTP->idle(0.3);

        $body->{out} .= '"}';
        $body->wait(undef, 5);
        isnt $body->status // 0, 200, 'nor is one served that was still sent';

        $_->all_back("$how") for @both;
        is $mock->wait(in_flight => 0)->{in_flight}, 0,
            'the provider is left alone';
        is with($_, $secret), $how eq 'DELETE' ? 401 : 403, 'refused'
            for @both;

        $mock->script;
        api($x, DELETE => '/keys/cut') if $how eq 'PATCH';
    }

    # enabled again, it lives on

    my $secret = make($y, 'again');
    api($y, PATCH => '/keys/again?streams=cut', { enabled =>
        JSON::PP::false });
    api($y, PATCH => '/keys/again', { enabled => JSON::PP::true });
    within($x, sub { with($x, $secret) == 200 }, 'a key is back');

    # also on workers that have yet to hear of the cut

    my @r = map { chat($x, $secret, "again $_", stream => 1,
        headers => { 'x-mock-pace-ms' => 100 }) } 1 .. 8;
    $_->wait for @r;
    is join(' ', map { last_of($_) } @r), join(' ', ('[DONE]') x 8),
        'and its streams end by themselves';
    api($y, PATCH => '/keys/again?streams=cut', { priority => 1 });
    api($y, DELETE => '/keys/again');
}


# what runs for others is not touched

sub others {
    my %key = map { ($_ => make($x, $_, team => 'search')) } qw(leads joins);
    within($y, sub { with($y, $key{joins}) == 200 }, 'two keys of a team');

    $mock->script({ match => { body => 'shared' }, chunks => 30,
        pace_ms => 50 });
    my $lead = chat($x, $key{leads}, 'shared', stream => 1);
    $lead->wait_events(2);
    my $join = chat($x, $key{joins}, 'shared', stream => 1);
    $join->wait_events(1);
    my $late = chat($x, $key{joins}, 'shared');
    my $file = $x->start_chat('shared by none', stream => 1);
    $file->wait_events(1);
    Test::LLM::HTTP->idle(0.1);
    is $mock->stats->{requests}, 2, 'one shares the call of the other';

    api($x, DELETE => '/keys/leads?streams=cut');
    $_->wait for $lead, $join, $late, $file;
    refused($lead, 'stream');
    like last_of($join), qr/^\[DONE\]$|"upstream_error"/,
        'who shares its call is told if that ends';
    is $late->status, 200, 'and is served if nothing has begun';
    is last_of($file), '[DONE]', 'a key of the file, too';
    $mock->script;
    api($x, DELETE => '/keys/joins');
    $_->all_back('after a cut') for @both;
}


# a gateway that does not reach Redis for a while

sub away {
    my %keep = map { ($_ => make($x, $_)) } qw(stays goes off last);
    within($y, sub { with($y, $keep{last}) == 200 }, 'keys');
    my @running;
    push @running, start_api($x, POST => '/keys', { name => "old$_" })
        for 1 .. 450;
    $_->wait for @running;
    within($y, sub { count($y) == count($x) }, 'and many more');

    my $stream = chat($y, $keep{last}, 'last', stream => 1,
        headers => { 'x-mock-pace-ms' => 100, 'x-mock-chunks' => 600 });
    $stream->wait_events(1);

    $proxy->fault('refuse');
    $proxy->fault('drop');

    @running = map { start_api($x, POST => '/keys', { name => "new$_" }) }
        1 .. 450;
    $_->wait for @running;
    my $new = make($x, 'newest');
    is with($y, $new), 401, 'a gateway away from Redis does not know it';
    @running = map { start_api($x, DELETE => "/keys/old$_?streams=cut") }
        1 .. 450;
    $_->wait for @running;
    api($x, DELETE => '/keys/goes');
    api($x, PATCH => '/keys/off', { enabled => JSON::PP::false });
    api($x, DELETE => '/keys/last?streams=cut');
    is with($y, $keep{$_}), 200, "nor that \"$_\" was changed"
        for qw(stays goes off);
    refused(api($y, POST => '/keys', { name => 'here' }), 'redis_unavailable');

    $proxy->fault('pass');
    chmod 0777, $y->path('proxy.sock');
    ok $y->until(sub { with($y, $new) == 200 }, 10), 'back, it catches up';
    ok $y->until(sub { shown($x) eq shown($y) }, 5), 'with all';
    is join(' ', map { with($y, $keep{$_}) } qw(stays goes off last)),
        '200 401 403 401', 'each key as it is';
    $stream->wait(undef, 5);
    ok $stream->end, 'a stream that was cut meanwhile has ended';
    refused($stream, 'stream');

    # so long that nobody remembers what is gone

    my $gone = make($x, 'forgotten');
    within($y, sub { with($y, $gone) == 200 }, 'a key');
    $proxy->fault('refuse');
    $proxy->fault('drop');
    api($x, DELETE => '/keys/forgotten');
    $redis->command(DEL => '{llm}:keys:dead');
    $redis->command(HSET => '{llm}:keys:meta', floor =>
        $redis->command(HGET => '{llm}:keys:meta', 'v'));
    my $late = make($x, 'late');
    is with($y, $gone), 200, 'deleted while a gateway is away';
    $proxy->fault('pass');
    chmod 0777, $y->path('proxy.sock');
    ok $y->until(sub { with($y, $late) == 200 }, 10), 'it compares all';
    ok $y->until(sub { with($y, $gone) == 401 }, 2), 'and finds what is gone';
    is shown($x), shown($y), 'both know the same';

    wipe($x);
    within($y, sub { count($y) == count($x) }, 'all are gone');
}


# Redis is there, but says nothing: what becomes of a change is not known, but
# it is the same in both

sub silent {
    my $secret = make($x, 'quiet', requests_per_minute => 500);
    within($y, sub { with($y, $secret) == 200 }, 'a key');

    $redis->pause;
    my $r = api($x, PATCH => '/keys/quiet', { priority => 7 });
    refused($r, 'redis_unavailable');
    like $r->json->{error}{message}, qr/not known/, 'and says what it is';
    is with($_, $secret), 200, 'a key works while Redis is silent' for @both;
    $redis->resume;

    ok $x->until(sub { shown($x) eq shown($y) }, 5), 'both know the same';
    ok $x->until(sub { api($x, PATCH => '/keys/quiet', { priority => 9 })
        ->status == 200 }, 10), 'changes are made again';
    within($y, sub { (api($y, GET => '/keys/quiet')->json->{priority} // 0)
        == 9 }, 'in both');
    settle();
    api($x, DELETE => '/keys/quiet');
}


# Redis is gone, and comes back with all it had

sub down {
    my %key = map { ($_ => make($x, $_)) } qw(known off);
    api($x, PATCH => '/keys/off', { enabled => JSON::PP::false });
    within($y, sub { with($y, $key{off}) == 403 }, 'keys');
    my $before = shown($x);

    $redis->stop;

    for my $t (@both) {
        ok $t->until(sub { with($t, $key{known}) == 200 }),
            'without Redis a key works';
        is with($t, $key{off}), 403, 'another is refused';
        is with($t, 'sk-llm-nobody'), 401, 'nobody is nobody';
        refused(api($t, POST => '/keys', { name => 'x' }),
            'redis_unavailable');
        refused(api($t, PATCH => '/keys/known', { priority => 3 }),
            'redis_unavailable');
        refused(api($t, DELETE => '/keys/known?streams=cut'),
            'redis_unavailable');
        refused(api($t, PUT => '/teams/x', {}), 'redis_unavailable');
        refused(api($t, POST => '/keys/known/rotate'), 'redis_unavailable');
        is shown($t), $before, 'nothing has changed';
        is with($t, $key{known}), 200, 'and the key works';
    }

    # a worker's death and a reload forget nothing meanwhile

    $x->kill_worker;
    is with($x, $key{known}), 200, 'a worker dies: the key works';
    $y->reload;
    is with($y, $key{known}), 200, 'a reload: the key works';
    is shown($_), $before, 'all of them' for @both;

    $redis->start;
    ok $x->until(sub { api($x, PATCH => '/keys/known', { priority => 4 })
        ->status == 200 }, 10), 'with Redis back changes are made';
    ok $y->until(sub { (api($y, GET => '/keys/known')->json->{priority} // 0)
        == 4 }, 10), 'and known';
    settle();
    is shown($x), shown($y), 'both know the same';
}


# Redis comes back with nothing

sub emptied {
    my %key = map { ($_ => make($x, $_)) } qw(one two three);
    api($x, PUT => '/teams/lab', { concurrency => 5 });
    $key{four} = make($x, 'four', team => 'lab');
    api($x, POST => '/keys', { name => "row$_" }) for 1 .. 150;
    within($y, sub { count($y) == count($x) }, 'keys');
    my $before = shown($x);

    empty();

    my $all = 1 + count($x);
    ok $x->until(sub { $redis->command(HLEN => '{llm}:keys') == $all }, 15),
        'an empty Redis is given all back'
        or diag $redis->command(HLEN => '{llm}:keys'), " of $all";
    is shown($_), $before, 'nothing is lost' for @both;
    is with($_, $key{four}), 200, 'the key works' for @both;
    ok $x->said(qr/\[warn\] .*Redis does not know of all keys/)
        + $y->said(qr/\[warn\] .*Redis does not know of all keys/),
        'the log tells of it';

    ok $x->until(sub { api($x, DELETE => '/keys/one')->status == 200 }, 5),
        'one is deleted';
    within($y, sub { with($y, $key{one}) == 401 }, 'in both');
    ok $y->until(sub { api($y, DELETE => '/keys/two')->status == 200 }, 5),
        'another one at the other';
    within($x, sub { with($x, $key{two}) == 401 }, 'in both');
    Test::LLM::HTTP->idle(0.7);
    is join(' ', map { with($_, $key{one}) . with($_, $key{two}) } @both),
        '401401 401401', 'and they do not come back';
    is shown($x), shown($y), 'both know the same';

    my $z = gateway('z', $redis->url);
    ok $z->until(sub { shown($z) eq shown($x) }, 5), 'a new gateway, too';
    $z->quit;
}


# it comes back empty and takes nothing at first

sub refusing {
    my $secret = make($x, 'dear');
    within($y, sub { with($y, $secret) == 200 }, 'a key');
    my $before = shown($x);

    empty(maxmemory => '1b');
    Test::LLM::HTTP->idle(1);
    is with($_, $secret), 200, 'a Redis that takes nothing back' for @both;
    $redis->command(qw(CONFIG SET maxmemory 0));

    my $more;
    ok $x->until(sub { my $r = api($x, POST => '/keys', { name => 'more' });
        $more = $r->json->{secret}; $r->status == 201 }, 10),
        'takes a change later';
    within($y, sub { with($y, $more) == 200 }, 'which is known');
    Test::LLM::HTTP->idle(1);
    is with($_, $secret), 200, 'and no other key is lost' for @both;
    api($x, DELETE => '/keys/more');
    within($y, sub { with($y, $more) == 401 }, 'a deleted one is');
    is shown($_), $before, 'they are as they were' for @both;
    is $redis->command(HLEN => '{llm}:keys'), 1 + count($x),
        'and Redis has them all';
}


# workers that follow Redis die; one goes on

sub deaths {
    for my $pid ($y->workers) {
        my @running = map { start_api($x, POST => '/keys',
            { name => "d$pid-$_" }) } 1 .. 60;
        Test::LLM::HTTP->idle(0.02);
        $y->kill_worker('KILL', $pid);
        $_->wait for @running;
        my $secret = make($x, "d$pid");
        within($y, sub { with($y, $secret) == 200 },
            'a worker is killed: another one follows');
    }

    ok $y->until(sub { shown($x) eq shown($y) }, 3), 'all of it';
    wipe($x);
    within($y, sub { count($y) == count($x) }, 'and what goes');
}


# a gateway starts while Redis is down

sub begin_without {
    my $secret = make($x, 'there');
    $redis->stop;

    my $z = gateway('z', $redis->url);
    is $z->chat('hello')->status, 200, 'without Redis at the start a key of '
        . 'the file works';
    my $r = chat($z, $secret, 'hello');
    $r->wait;
    is $r->status, 503, 'who is not known may be known later';
    is $r->json->{error}{code}, 'policy_unavailable', 'and is told so';
    is api($z, GET => '/keys/there')->status, 404, 'it is not listed';
    $redis->start;

    ok $z->until(sub { with($z, $secret) == 200 }, 10), 'with Redis it works';
    is with($z, 'sk-llm-nobody'), 401, 'and nobody is nobody';
    $z->quit;
    api($x, DELETE => '/keys/there');
    within($y, sub { count($y) == count($x) }, 'and goes');
}


# twenty thousand at the start

sub many {
    my $n = 20000;
    my $v = 1_000_000_000_000_000;       # so old that the others pass it over

    while ($n > 0) {
        my @rows = map {
            my $i = $n--;
            ("k:many$i", sprintf('%d {"sha256":"%s"}', ++$v,
                sha256_hex("many $i")), $v)
        } 1 .. 500;
        $redis->command(EVAL => "for i = 1, #ARGV, 3 do
            redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
            redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i]) end",
            2, '{llm}:keys', '{llm}:keys:log', @rows);
    }

    my $want = 20000 + count($x);
    my (@slow, $took);

    for my $try (1 .. 3) {
        my $z = gateway('z', $redis->url, 'keys=64m');
        my $start = time;
        my $slowest = 0;
        my $c = $z->start_chat('warm');
        $c->wait;

        until ((api($z, GET => '/status')->json->{policy}{admin_keys} // 0)
            >= $want)
        {
            for (1 .. 10) {
                my $r = $c->again(%{$z->chat_spec('meanwhile ' . rand)});
                $r->wait;
                $slowest = $r->end if $r->end > $slowest;
                $c = $r;
            }

            last if time - $start > 30;
        }

        $took = time - $start;
        is with($z, "many $_"), 200, "key $_ of 20,000" for 1, 9999, 20000;
        is api($z, GET => '/status')->json->{policy}{admin_keys}, $want,
            sprintf 'all are there after %.1f s', $took;
        $z->quit;
        push @slow, $slowest;
        last if $slowest < 0.05;
    }

    my ($best) = sort { $a <=> $b } @slow;
    cmp_ok $best, '<', $x->sanitized ? 1 : 0.05, sprintf
        'no request takes long meanwhile: %.0f ms', 1000 * $best;

    $redis->command(EVAL => "for i = 1, 20000 do
        redis.call('HDEL', KEYS[1], 'k:many' .. i)
        redis.call('ZREM', KEYS[2], 'k:many' .. i) end", 2, '{llm}:keys',
        '{llm}:keys:log');
}


# helpers

sub fleet {
    @both = ($x, $y) = map { Test::LLM->new(workers => 2) } 1, 2;

    $x->{tenants}{defaults} = { requests_per_minute => 100000,
        concurrency => 500 };
    $x->team('search');
    $x->key('user');
    $redis = $x->redis(appendonly => 'yes', appendfsync => 'always');
    $mock = $x->mock;
    $proxy = Test::LLM::Proxy->new($y, $redis);

    configure($x, $redis->url);
    configure($y, $proxy->url);

    # with the slots that it has in the fleet

    ok $x->until(sub { $redis->gateways == 2 }), 'two gateways';
}


sub gateway {
    my ($name, $url, $zone) = @_;

    my $t = Test::LLM->new(workers => 2);
    configure($t, $url, $zone);

    return $t;
}


sub configure {
    my ($t, $url, $zone) = @_;

    $t->{tenants} = $x->{tenants};
    $t->write('tenants.json', $x->{tenants});
    $t->write('admin.secret', "$admin\n");
    $t->token(REDIS => "$url timeout=500ms");
    $t->token(MOCK => $x->token('MOCK'));
    $t->gateway(location => 'llm_retry tries=1; llm_cache on;',
        zone => $zone // '',
        admin => 'location /admin/v1/ {
            llm_admin file:%%DIR%%/admin.secret; }');
    $t->until(sub { $t->get('/readyz', port => $t->port('PORT_ADMIN'))
        ->status == 200 });
}


# Redis dies and forgets all

sub empty {
    my (%options) = @_;

    $redis->stop('KILL');
    system 'rm', '-rf', glob("$redis->{dir}/appendonly*"),
        glob("$redis->{dir}/*.rdb");
    local $redis->{options} = { %{$redis->{options}}, %options };
    $redis->start;
}


# all workers have found Redis again

sub settle {
    for my $t (@both) {
        my $n = 0;
        $t->until(sub { $n = api($t, PUT => '/teams/settle', {})->status
            =~ /^20/ ? $n + 1 : 0; $n >= 16 }, 10);
    }

    ok $x->until(sub { api($x, DELETE => '/teams/settle')->status == 200 }),
        'Redis is back for all workers';
    within($y, sub { api($y, GET => '/teams/settle')->status == 404 },
        'and in both');
}


sub start_api {
    my ($t, $method, $path, $body, %spec) = @_;

    return Test::LLM::HTTP->start(%{$t->spec($method => "/admin/v1$path",
        port => $t->port('PORT_ADMIN'), timeout => 30,
        headers => [Authorization => "Bearer $admin"],
        defined $body ? (body => $body) : (), %spec)});
}


sub api {
    my $r = start_api(@_);
    $r->wait;
    return $r;
}


sub make {
    my ($t, $name, %members) = @_;

    my $r = api($t, POST => '/keys', { name => $name, %members });
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $r->status, 201, "key $name" or diag $r->body;

    return $r->json->{secret};
}


sub chat {
    my ($t, $secret, $text, %spec) = @_;

    my $headers = delete $spec{headers} // {};

    return $t->start_chat($text, key => undef, timeout => 90, headers => {
        Authorization => "Bearer $secret", %$headers }, %spec);
}


sub last_of { return ($_[0]->data)[-1] // '' }


# the status of a request that no other one is like

sub with {
    my ($t, $secret) = @_;

    my $r = chat($t, $secret, 'with ' . rand);
    $r->wait;

    return $r->status // 0;
}


# a request whose body is not all sent

sub start_body {
    my ($t, $secret) = @_;

    my $head = '{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],'
        . '"user":"x';

    return Test::LLM::HTTP->start(%{$t->spec(POST => '/v1/chat/completions')},
        timeout => 90, raw => "POST /v1/chat/completions HTTP/1.1\r\n"
        . "Host: x\r\nAuthorization: Bearer $secret\r\nContent-Length: "
        . (2 + length $head) . "\r\n\r\n$head");
}


# an error of the admin API, or of what was cut off

sub refused {
    my ($r, $what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    if ($what eq 'redis_unavailable') {
        is $r->status . ' ' . ($r->json->{error}{code} // ''),
            '503 redis_unavailable', 'a change is refused';
        return;
    }

    if (@{$r->events}) {
        my $last = last_of($r);
        my $e = eval { $json->decode($last) } // {};

        # whoever made the call that it shares may have heard earlier

        my $code = $what eq 'shared' ? qr/^(?:key_disabled|upstream_error)$/
            : qr/^key_disabled$/;
        like $e->{error}{code} // '', $code, "$what: the last event says why"
            or diag $last;
        return;
    }

    is join(' ', $r->status // '-', eval { $r->json->{error}{code} } // '-'),
        '403 key_disabled', "$what: the answer says why";
}


sub within {
    my ($t, $sub, $what) = @_;

    my $start = time;
    $t->until(sub { $sub->($t) }, 5);
    my $took = time - $start;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok $took, '<', 1, sprintf '%s (%.0f ms)', $what, 1000 * $took;

    return $took;
}


sub list {
    my ($t, $path) = @_;

    my ($after, @rows) = ('');

    do {
        my $page = api($t, GET => "$path?limit=1000$after")->json;
        push @rows, @{$page->{data}};
        $after = '&after=' . ($page->{next} // '')
            =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
    } while ($after ne '&after=');

    return @rows;
}


sub shown {
    my ($t) = @_;

    my @rows = map { list($t, $_) } '/keys', '/teams';
    delete @$_{qw(day month)} for @rows;

    return join "\n", sort map { $json->encode($_) } @rows;
}


# keys of the admin API

sub count {
    my ($t) = @_;
    return api($t, GET => '/status')->json->{policy}{admin_keys};
}


sub wipe {
    my ($t) = @_;

    my @names = map { $_->{source} eq 'admin' ? $_->{name} : () }
        list($t, '/keys');
    my @running = map { start_api($t, DELETE => "/keys/$_") } @names;
    $_->wait for @running;
}
