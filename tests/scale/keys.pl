#!/usr/bin/perl

# A million keys: of the tenants file, of the admin API in Redis, and of the
# journal under llm_state.  What a start, a look-up, a change of the file and
# the death of a worker cost; tests the bounds and prints a table.
#
# SCALE_KEYS   how many (1000000)
# SCALE_PARTS  which parts: file, redis, journal (others are of curves.py)

use warnings;
use strict;

use FindBin;
use lib "$FindBin::Bin/../../t/lib", $FindBin::Bin;

BEGIN { $ENV{TEST_BUILD} ||= "$FindBin::Bin/../../build" }

use Compress::Zlib qw(crc32);
use Digest::SHA qw(sha256_hex);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time sleep);

use Scale;
use Test::LLM;


my $keys = $ENV{SCALE_KEYS} || 1000000;
my %parts = map { $_ => 1 } split /\s+/,
    $ENV{SCALE_PARTS} || 'file redis journal';

exit 0 if !grep { $parts{$_} } qw(file redis journal);

my $area = int($keys * 480 / 1048576) + 32;             # MB
my $shim = "$ENV{TEST_BUILD}/scale/turn.so";

my $template = <<'EOT';
%%GLOBALS%%

events {
    worker_connections 2048;
}

http {
    %%GLOBALS_HTTP%%
    access_log off;
    keepalive_requests 10000000;

    llm_zone llm 256m usage=64m keys=%%KEYS%%;
    llm_redis %%REDIS%%;
    %%STATE%%
    llm_tenants %%DIR%%/tenants.json;
    llm_provider mock uri=/llm/mock/ key=file:%%DIR%%/provider.key;
    llm_route * mock;

    upstream mock {
        server %%MOCK%% max_fails=0;
        keepalive 64;
    }

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        add_header X-Pid $pid always;

        location / { llm_gateway; }

        location = /probe { return 200 "here"; }

        location /llm/mock/ {
            internal;
            proxy_pass http://mock/v1/;
            %%PROXY%%
        }
    }

    server {
        listen 127.0.0.1:%%PORT_ADMIN%%;

        location = /metrics { llm_metrics; }
        location = /readyz { llm_health; }
    }
}
EOT


$| = 1;

of_the_file() if $parts{file};
of_redis() if $parts{redis};
of_the_journal() if $parts{journal};

Scale::table();
done_testing;


# --- (a) the tenants file

sub of_the_file {
    my $few = gateway('100 keys', 100);
    my $t = gateway('the file', $keys);

    row('tenants file', sprintf '%.0f MB', (-s $t->path('tenants.json')) / 1e6);
    row('start', sprintf '%.1f s', $t->{took});
    memory($t, $keys);
    reading($few, $t);

    # a tenth of them with another limit, a hundredth gone, as many new

    my $last = $keys - 1;
    my $some = int($keys / 100);

    is answer($t, $last + $some), 401, 'a key that is not there yet';

    my $took = following($t, 'change of the file', sub {
        file($t, [[0, $last - $some], [$last + 1, $last + $some]],
            sub { $_[0] % 10 ? 60000 : 90000 });
        return sub { answer($t, $last + $some) == 200 };
    });

    is answer($t, $last), 401, 'a key that went is refused';
    is answer($t, 0), 200, 'one that stayed is not';
    row('change of the file: until in force', sprintf '%.1f s', $took);

    # nginx -s reload: the master reads all of it anew

    $took = following($t, 'nginx -s reload', sub {
        my %old = map { $_ => 1 } $t->workers;
        kill 'HUP', $t->master;
        return sub { 2 == grep { !$old{$_} } $t->workers };
    });
    row('nginx -s reload: until new workers', sprintf '%.1f s', $took);
    $t->{expected} = [$t->workers];

    # killed while it loads

    my $dead;
    my ($anon) = sort { $a <=> $b } map { anon($_) } $t->workers;

    $took = following($t, 'worker killed while loading', sub {
        file($t, [[0, $last]], sub { 70000 });
        until_true(sub {
            ($dead) = grep { anon($_) > $anon + 20e6 } $t->workers;
            return $dead;
        }, 30) or die 'nobody loads the file';
        sleep 0.5;
        $t->kill_worker('KILL', $dead);
        return sub { answer($t, $last) == 200 };
    }, closed => 1);
    ok !kill(0, $dead), 'the worker that loaded is dead';
    is answer($t, $last + $some), 401, 'what went is not known';
    row('worker killed while loading: until in force', sprintf '%.1f s',
        $took);

    again($few, sub { int rand 100 }, 'a small file');
    again($t, sub { int rand($keys - $some) }, 'the file');
    gone($_) for $few, $t;
}


# CPU of the workers for a request, alternating

sub reading {
    my ($few, $t) = @_;

    my %us;
    my $n = 4000;

    my @variants = (
        ['100 keys', $few, sub { int rand 100 }],
        ["$keys keys, 100 of them", $t, sub { int(rand 100) * ($keys / 100) }],
        ["$keys keys, all of them", $t, sub { int rand $keys }],
    );

    requests($_->[1], $n, $_->[2]) for @variants;             # warm

    for my $round (1 .. 7) {
        for my $v ($round % 2 ? @variants : reverse @variants) {
            my $before = cpu($v->[1]);
            requests($v->[1], $n, $v->[2]);
            push @{$us{$v->[0]}}, (cpu($v->[1]) - $before) / $n * 1e6;
        }
    }

    my @medians = map { (sort { $a <=> $b } @{$us{$_->[0]}})[3] } @variants;

    row("CPU per request, $variants[$_][0]", sprintf '%.1f µs', $medians[$_])
        for 0 .. 2;

    cmp_ok $medians[1] / $medians[0], '<', 1.1,
        'a request with a million keys costs what it does with a hundred';
}


# --- (b) keys of the admin API in Redis

sub of_redis {
    my $t = new_one();
    my $redis = $t->redis;
    my $hash = '{llm}:keys';
    my $version = int(time * 1e6) - 2 * $keys;
    my $from = time;

    for (my $i = 0; $i < $keys; $i += 1000) {
        my $end = $i + 999 < $keys ? $i + 999 : $keys - 1;
        my @n = $i .. $end;

        $redis->command('HSET', $hash,
            map { ("k:a$_", ($version + $_) . ' ' . record("a$_")) } @n);
        $redis->command('ZADD', "$hash:log",
            map { ($version + $_, "k:a$_") } @n);
    }

    $redis->command('HSET', "$hash:meta", 'v', $version + $keys - 1,
        'e', $version);
    note sprintf 'Redis was filled in %.1f s', time - $from;

    gateway('Redis', 100, $t, REDIS => $redis->url);

    my $took = following($t, 'keys of Redis', sub {
        return sub {
            sleep 0.2;
            return answer($t, 'nobody') == 401;
        };
    });

    row('Redis: until all are known', sprintf '%.1f s', $took);

    my %calls = map { /^cmdstat_(\w+):calls=(\d+)/ ? ($1 => $2) : () }
        split /\r?\n/, $redis->command('INFO', 'commandstats');
    row('Redis: commands', join ', ', map { "$calls{$_} $_" }
        grep { $calls{$_} } qw(hscan hmget zrangebyscore));
    cmp_ok $calls{hscan}, '<', $keys / 200 * 1.5, 'one worker reads them';

    is known($t), $keys, 'all are known';
    is answer($t, 'a' . int rand $keys), 200, 'a key of Redis';
    memory($t, $keys, 'Redis: ');

    $redis->stop('KILL');
    is scalar(grep { answer($t, 'a' . int rand $keys) != 200 } 1 .. 200), 0,
        'keys go on working without Redis';
    again($t, sub { 'a' . int rand $keys }, 'Redis, which is away');

    is known($t), $keys, 'all of them';
    gone($t);
}


sub known {
    my ($t) = @_;
    return $t->metric('llm_policy_keys{source="admin"}');
}


# --- (c) llm_state's journal

sub of_the_journal {
    my $t = new_one();
    my $version = int(time * 1e6) - 2 * $keys;

    open my $out, '>', $t->path('state/keys') or die "journal: $!";

    for my $i (0 .. $keys - 1) {
        my $text = ($version + $i) . " k:a$i " . record("a$i");
        printf $out "%08x %s\n", crc32($text), $text;
    }

    close $out or die "journal: $!";
    chown((getpwnam $t->{user})[2, 3], $t->path('state/keys'))
        if $t->{user};

    gateway('the journal', 100, $t, STATE => 'llm_state %%DIR%%/state;');

    row('journal', sprintf '%.0f MB', (-s $t->path('state/keys')) / 1e6);
    row('journal: start', sprintf '%.1f s', $t->{took});
    is known($t), $keys, 'all keys of the journal are known';
    memory($t, $keys, 'journal: ');
    again($t, sub { 'a' . int rand $keys }, 'the journal');
    gone($t);
}


# --- parts

sub new_one {
    my $t = Test::LLM->new(workers => 2);

    chmod 0777, $t->dir;
    return $t;
}


sub gateway {
    my ($what, $n, $t, %tokens) = @_;

    $t //= new_one();
    $t->mock;
    $t->write('provider.key', "sk-provider-secret\n");
    file($t, [[0, $n - 1]], sub { 60000 });
    $t->{area} = $area;
    $t->token(KEYS => "${area}m");
    $t->token($_ => $tokens{$_} // ($_ eq 'REDIS' ? 'off' : ''))
        for qw(REDIS STATE);

    {
        local $ENV{LD_PRELOAD} = $shim;
        local $ENV{TURN_DIR} = $t->dir;
        my $from = time;

        $t->nginx($template);
        until_true(sub { answer($t, 0) == 200 }, 60) or die 'no answer';
        $t->{took} = time - $from;
    }

    note sprintf '%s: started in %.1f s', $what, $t->{took};

    return $t;
}


sub gone {
    my ($t) = @_;

    $t->finish;
    $t->remove if !$ENV{TEST_LLM_LEAVE};
}


# keys by number, in 1000 teams; a change appears at once

sub file {
    my ($t, $ranges, $limit) = @_;

    my $first = 1;
    my $name = $t->path('tenants.json');

    open my $out, '>', "$name.new" or die "$name: $!";
    print $out "{\"defaults\": {\"concurrency\": 100},\n\"teams\": {",
        join(",\n", map { "\"team$_\": {\"concurrency\": 1000}" } 0 .. 999),
        "},\n\"keys\": {";

    for my $range (@$ranges) {
        for my $i ($range->[0] .. $range->[1]) {
            print $out $first ? "\n" : ",\n", "\"key$i\": {\"team\": ",
                '"team', $i % 1000, '", "sha256": "', sha256_hex(secret($i)),
                '", "requests_per_minute": ', $limit->($i), '}';
            $first = 0;
        }
    }

    print $out "\n}}\n";
    close $out or die "$name: $!";
    rename "$name.new", $name or die "$name: $!";
}


sub record {
    my ($name) = @_;
    return '{"team":"team' . (substr($name, 1) % 1000)
        . '","requests_per_minute":60000,"created":1795219200,"sha256":"'
        . sha256_hex(secret($name)) . '","hint":"sk-llm-...'
        . substr(secret($name), -4) . '"}';
}


# While something goes on: the longest turn of the workers' loops, and what
# clients and somebody who only asks for a trivial page see of it.  "start"
# begins it and gives what is true at its end.

sub following {
    my ($t, $what, $start, %allow) = @_;

    my $load = load($t);
    my $probe = probe($t);

    turns_clear($t->dir);

    my $end = $start->();
    my $from = time;
    my $done = until_true($end, 180);
    my $took = time - $from;

    ok $done, "$what: it ends" or return $took;

    # what the file needed is given back in the end

    until_true(sub { !grep { anon($_) > 20e6 } $t->workers }, 10);
    sleep 0.3;

    my $said = ended($load);
    my $late = ended($probe);
    my $turns = turns($t->dir);

    ok $said->{200}, "$what: there were requests";
    delete $said->{closed} if $allow{closed};
    is join(' ', grep { !/^(?:200|over|max)$/ } sort keys %$said), '',
        "$what: all were answered";
    cmp_ok $said->{max}, '<', 50, "$what: none was slower than 50 ms"
        if !$allow{closed};
    ok $turns->{n}, "$what: turns were measured";
    cmp_ok $turns->{cpu}, '<', 5, "$what: no turn longer than 5 ms";

    row("$what: requests", sprintf '%d, slowest %.1f ms, above 50 ms: %d',
        $said->{200}, $said->{max}, $said->{over} // 0);
    row("$what: longest turn", sprintf '%.1f ms of CPU, %.1f ms by the '
        . 'clock (%d above 5 ms)', @$turns{qw(cpu wall over_wall)});
    row("$what: a trivial page", sprintf 'slowest %.1f ms', $late->{max});

    return $took;
}


# a worker dies: the one in its place serves at once

sub again {
    my ($t, $some, $what) = @_;

    for my $pid ($t->workers) {
        my %old = map { $_ => 1 } $t->workers;
        my %seen;
        my $from = time;

        $t->kill_worker('KILL', $pid);

        my $done = until_true(sub {
            my ($status, $worker) = answer($t, $some->());
            return 0 if !$worker || $old{$worker};
            $seen{$status}++;
            return 1;
        }, 10);

        ok $done, "a new worker, keys of $what";
        is join(' ', keys %seen), 200, '... knows them at once';
        row("worker killed, $what: until the new one answers",
            sprintf '%.0f ms', (time - $from) * 1e3);
    }
}
