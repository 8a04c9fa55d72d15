package Test::LLM::Fault;

# Two hundred clients of all kinds, each of whom knows the answer that it must
# get, at one or two gateways, for the tests of faults under load.  The kinds
# and how many of them there are at a time:
#
#   json    waits for a JSON answer
#   stream  ... for a stream
#   cached  asks what others ask, too
#   rated   has requests per minute, and is refused beyond them
#   line    has eight slots, and waits in line for one
#   leave   leaves sooner or later
#   ill     asks for the model "ill", of which only tests of providers have any
#
# Each client has one outcome:
#
#   whole   its own answer, complete
#   refused 429 with an error object
#   failed  another status of 400 or more with an error object
#   broken  a stream with the beginning of its own answer, then an error event,
#           no [DONE], and no regular end of the connection
#   cut     the connection ended, as it may if its worker was killed
#   left    the client left
#
# All else is a complaint: a foreign answer, bytes behind the end, no end, an
# error that is no object, or an outcome that a kind may not have.

use warnings;
use strict;

use JSON::PP;
use List::Util qw(max sum0);
use Test::More ();
use Time::HiRes qw(time);

use Test::LLM;
use Test::LLM::HTTP;
use Test::LLM::Proxy;


my %clients = (json => 60, stream => 80, cached => 20, rated => 16,
    line => 14, leave => 10, ill => 0);

my %may = (rated => [qw(whole refused)], leave => [qw(whole left)],
    ill => [qw(whole failed broken)]);

# requests per minute and burst of the rated

my ($rate, $burst) = (600, 60);

# KB of a worker that come and go

my $slack = 1536;


# fault, method, pass: what the test says of itself
# gateways, workers => how many; clients => { kind => how many }
# redis => { options of redis-server } or 0, shared => words of llm_redis,
#     proxy => 1: the fault proxy in between
# mocks => 2: the mock "backup", too, which is always well
# may => { kind => [outcomes] }, excuse => sub { slot, outcome } gives more
# request => sub { slot } gives more of start_chat
# each => sub { slot, outcome } hears of all ends
# teams => sub { hub } makes more of them, files => { name => content } are
#     put where each gateway is
# tasks => options of llm_tasks, pause => seconds between two requests
# kills_workers => 1, room => KB that workers may keep besides
# location, http, server, routes, provider, zone, admin: as for gateway()

sub new {
    my ($class, %options) = @_;

    my $self = bless { gateways => 1, workers => 2, redis => {},
        shared => 'timeout=200ms limits=exact', mocks => 1, slots => [],
        kills => [], complaints => {}, n => {}, said => {},
        sent => 0, began => time, seed => $ENV{TEST_LLM_SEED}
            // int rand 1 << 30, %options }, $class;

    srand $self->{seed};

    Test::More::note("fault:  $self->{fault}");
    Test::More::note("method: $_") for split /\n/, $self->{method};
    Test::More::note("pass:   $_") for split(/\n/, $self->{pass}),
        'all tests: one outcome for each client, its own answer, no worker '
        . 'exits, slots 0 here and in Redis, memory of workers within 10 %, '
        . 'no alert, no sanitizer report';
    Test::More::note("TEST_LLM_SEED=$self->{seed}");

    my %n = (%clients, %{delete $self->{clients} // {}});

    $self->{may} = { %may, %{$self->{may} // {}} };
    $self->{slots} = [map { my $kind = $_; map { { kind => $kind, next =>
        time + rand 0.3 } } 1 .. $n{$kind} } sort keys %n];

    $self->start(delete @options{qw(fault method pass gateways workers redis
        proxy shared clients may mocks)}, %options);

    return $self;
}


# whoever has the mock and Redis is the last to be stopped

sub start {
    my ($self) = @_;

    my @all = map { Test::LLM->new(workers => $self->{workers}) }
        0 .. $self->{gateways};
    my $hub = $self->{hub} = pop @all;

    $self->{all} = \@all;

    $hub->team('red', requests_per_day => 1_000_000_000,
        tokens_per_day => 1_000_000_000_000, concurrency => 400);
    $hub->key($_, team => 'red', requests_per_minute => 10_000_000,
        tokens_per_minute => 1_000_000_000) for qw(json stream cached leave
        ill probe);
    $hub->key('rated', requests_per_minute => $rate,
        burst_requests => $burst);
    $hub->key('line', team => 'red', concurrency => 8,
        queue => { size => 100, timeout_ms => 40_000 });
    $self->{teams}->($hub) if $self->{teams};

    my $url = 'off';

    if ($self->{redis}) {
        $self->{store} = $hub->redis(%{$self->{redis}});
        $url = $self->{store}->url;
    }

    if ($self->{proxy}) {
        $self->{proxy} = Test::LLM::Proxy->new($hub, $self->{store});
        $url = $self->{proxy}->url;
    }

    my @mocks = map { $hub->mock('--journal', 100_000) } 1 .. $self->{mocks};

    $self->{mock} = $mocks[0];
    $self->{backup} = $mocks[1];

    for my $t (@all) {
        $t->{tenants} = $hub->{tenants};
        $t->write('tenants.json', $hub->{tenants});
        $t->write($_, $self->{files}{$_}) for keys %{$self->{files} // {}};
        $t->token($_ => $hub->token($_)) for map { 'MOCK' . ($_ > 1 ? $_ : '') }
            1 .. $self->{mocks};
        $t->token(REDIS => $url eq 'off' ? $url
            : "$url $self->{shared} gateways=$self->{gateways}");

        my $gateway = $self->{tasks} ? 'tasks_gateway' : 'gateway';

        $t->$gateway($self->{tasks} // (),
            location => $self->{location}
                // 'llm_retry tries=2 base=5ms;',
            http => 'llm_cache on; ' . ($self->{http} // ''),
            server => '%%BOTH%% location = /alive { return 204; } '
                . ($self->{server} // ''),
            map { ($_ => $self->{$_}) } grep { defined $self->{$_} } qw(routes
                provider zone admin));

        # a lock that died with its worker is found by the next one

        $t->allow(qr/\[alert\].*ledger, it is derived anew/) if $self->{kills_workers};
    }

    $self->script;

    Test::More::ok($all[0]->until(sub {
        $self->{store}->gateways == @all }, 20), 'all gateways are there')
        if $self->{store} && $self->{shared} !~ /limits=off/;
}


sub mock   { $_[0]{mock} }
sub backup { $_[0]{backup} }
sub redis  { $_[0]{store} }
sub proxy  { $_[0]{proxy} }
sub all    { @{$_[0]{all}} }
sub any    { $_[0]{all}[rand @{$_[0]{all}}] }
sub n      { $_[0]{n}{$_[1]}{$_[2]} // 0 }


# rules of the mock in front of the usual ones

sub script {
    my ($self, @rules) = @_;

    $self->{mock}->script(@rules,
        { match => { headers => { 'x-fault-probe' => '*' } } },
        { match => { stream => \1 }, delay_ms => 20, delay_jitter_ms => 200,
          pace_ms => 20 },
        { delay_ms => 50, delay_jitter_ms => 300 });
    $self->{backup}->script({ delay_ms => 20, delay_jitter_ms => 100 })
        if $self->{backup};
}


# Clients

sub text {
    my ($self, $kind) = @_;

    return "<same-$self->{seed}-" . int($self->{sent} / 100) . '>'
        if $kind eq 'cached';

    return "<$kind-$self->{seed}-$self->{sent}>";
}


sub answer { "You said $_[0]; I say that $_[0] is what you said, no less." }


sub begin {
    my ($self, $slot) = @_;

    my $kind = $slot->{kind};
    my $t = $slot->{t} = $self->any;
    my $text = $slot->{text} = $self->text($kind);
    my $stream = $kind eq 'stream' || ($kind ne 'json' && rand() < 0.5);

    $self->{sent}++;
    $slot->{answer} = answer($text);
    $slot->{stream} = $stream;
    $slot->{began} = time;
    $slot->{until} = time + rand 0.5;

    delete $slot->{body};

    my %more = $self->{request} ? $self->{request}->($slot) : ();

    $stream = $slot->{stream};
    $slot->{r} = $t->start_chat($text, key => $kind, stream => $stream,
        model => $kind eq 'ill' ? 'ill' : 'gpt-4o', timeout => 45,
        rand() < 0.5 ? (port => $t->port('PORT_BOTH')) : (), %more,
        body => { max_tokens => 40, %{$more{body} // {}} },
        headers => { 'X-Mock-Content' => $slot->{answer},
            rand() < 0.3 ? (Connection => 'close') : (),
            %{$more{headers} // {}} });
}


sub outcome {
    my ($self, $slot) = @_;

    my ($r, $kind, $answer) = @$slot{qw(r kind answer)};
    my $status = $r->status // 0;
    my $body = $r->body // '';
    my $is;

    if ($slot->{left}) {
        return 'left';
    }

    if (($r->error // '') eq 'timeout') {
        return 'no outcome';
    }

    # what broke off has no regular end of its framing either

    my @data = $r->data;

    @data = map { /data: ?(.*)/s ? $1 : () } split /\r\r/, $body
        if !@data && $body =~ /\r\r/;

    my $end = $data[-1] // '';
    my $got = join '', map { /"content":\s*"([^"\\]*)"/ ? $1 : () } @data;

    if ($status == 200 && $end =~ /^\{"error":/) {
        return "a foreign stream: $got" if index $answer, $got;
        return 'a stream that broke off and ends' if $r->complete;

        my ($code) = $end =~ /"code":\s*"?(\w+)/;
        $self->{said}{$kind}{'event ' . ($code // '?')}++;
        return 'broken';
    }

    if (!$r->complete) {
        return 'cut' if $self->died($slot);
        return sprintf 'cut without a kill: %s, status %s', $r->error // '-',
            $status;
    }

    return 'bytes behind the end' if length $r->{in};
    return 'whole' if defined $slot->{body} && $body eq $slot->{body};

    if ($status != 200) {
        return "an error that is no object: $status $body"
            if ref($r->json // '') ne 'HASH' || !$r->json->{error}{message};

        my $code = $r->json->{error}{code} // 'no code';
        $self->{said}{$kind}{"$status $code"}++;
        return $status == 429 ? 'refused' : 'failed';
    }

    if (($r->header('content-type') // '') !~ /event-stream/) {
        return "no stream: $body" if $slot->{stream};
        return $body =~ /"content":\s*"\Q$answer\E"/ ? 'whole'
            : "a foreign answer: $body";
    }

    my $ends = grep { $_ eq '[DONE]' } @data;

    return 'a stream to who wants none' if !$slot->{stream};
    return 'whole' if $got eq $answer && $end eq '[DONE]' && $ends == 1;
    return "a foreign stream: $got" if $got ne $answer;
    return "a stream that does not end well: $end";
}


# whether a worker was killed at the client's gateway just before its end

sub died {
    my ($self, $slot) = @_;

    my $end = $slot->{began} + $slot->{r}->end;

    return scalar grep { $_->{t} == $slot->{t} && $_->{at} < $end
        && $_->{at} > $end - 3 } @{$self->{kills}};
}


sub ended {
    my ($self, $slot) = @_;

    my $kind = $slot->{kind};
    my $is = $self->outcome($slot);
    my @may = (@{$self->{may}{$kind} // ['whole']}, 'cut');

    push @may, $self->{excuse}->($slot, $is) if $self->{excuse};

    $self->{n}{$kind}{$is}++;

    if (!grep { $_ eq $is } @may) {
        my $said = $is =~ /^(?:failed|refused|broken)$/
            ? ': ' . substr($slot->{r}->body, -200) : '';
        $self->{complaints}{substr "$kind: $is$said", 0, 300}++;
    }

    $self->{each}->($slot, $is) if $self->{each};

    # who was refused does not ask again at once

    $slot->{next} = time + ($is eq 'whole'
        ? rand($self->{pause} // 0.05) : 0.2 + rand 0.2);
    delete $slot->{r};
}


sub live {
    my ($self) = @_;

    my $now = time;
    my $live = 0;

    for my $slot (@{$self->{slots}}) {
        my $r = $slot->{r};

        if (!$r) {
            next if !$self->{open} || $now < $slot->{next};
            $self->begin($slot);

        } elsif (defined $r->end) {
            $self->ended($slot);
            next;

        } elsif ($slot->{kind} eq 'leave' && $now > $slot->{until}) {
            $slot->{left} = 1;
            rand() < 0.5 ? $r->abort : $r->close;
            $self->ended($slot);
            delete $slot->{left};
            next;
        }

        $live++;
    }

    return $live;
}


# lets them come and go for so many seconds, or until a condition holds: true

sub run {
    my ($self, $seconds, $done) = @_;

    my $until = time + $seconds;

    $self->{open} = 1;

    while (time < $until) {
        $self->live;
        return 1 if $done && $done->();
        Test::LLM::HTTP->idle(0.01);
    }

    return 0;
}


# nobody comes any more; waits until all have ended

sub drain {
    my ($self) = @_;

    my $until = time + 60;

    $self->{open} = 0;
    Test::LLM::HTTP->idle(0.01) while $self->live && time < $until;

    return !$self->live;
}


# Faults that more than one test has

sub kill_worker {
    my ($self, $t) = @_;

    $t //= $self->any;
    push @{$self->{kills}}, { t => $t, at => time - 0.1 };

    my @workers = $t->workers;
    my $pid = $workers[rand @workers];

    $t->allow(qr/\[alert\] .*process $pid exited on signal/,
        qr/\[alert\] .*locked by $pid/);
    kill 'KILL', $pid;

    $self->run(20, sub {
        my @now = $t->workers;
        return @now >= $t->{workers} && !grep { $_ == $pid } @now;
    });

    $t->{expected} = [$t->workers];
    delete $t->{idle};
}


# A bystander on the same workers, 50 requests a second in an open loop:
# start of it; what is given waits for its report.  "alive" asks nobody,
# "chat" has limits that are asked of Redis and a provider that takes no time.

sub watch {
    my ($self, $what, $seconds, @over) = @_;

    my $hub = $self->{hub};
    my $t = $self->{all}[0];
    my $name = 'watch' . ++$self->{watches};
    my @chat = ('-H', 'Authorization: Bearer ' . $hub->secret('probe'), '-H',
        'X-Fault-Probe: 1', '--unique');
    my $pid = $hub->spawn($name, "$hub->{build}/load", '-c', 64, '-r', 50, '-d',
        $seconds, map({ ('--over', $_ * 1000) } @over), $what eq 'chat' ? @chat
        : ('-m', 'GET', '--status', 204), 'http://127.0.0.1:'
        . $t->port('PORT_BOTH') . ($what eq 'chat' ? '/v1/chat/completions'
        : '/alive'));

    return sub {
        my $end = time + $seconds + 20;
        my $done = sub { $hub->read("$name.out") =~ /\}\s*\z/ };

        $self->{open} ? $self->run($end - time, $done)
            : $hub->until($done, $end - time);

        return decode_json($hub->read("$name.out"));
    };
}


# Criteria

# before the fault: a while of the same load, then what workers need

sub warm {
    my ($self, $seconds) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $self->run($seconds // 4);
    Test::More::ok($self->drain, 'warm: all come to an end');
    $self->judge('warm');

    $self->{memory} = max($self->memory);
}


sub memory {
    my ($self) = @_;

    my @kb;

    for my $pid (map { $_->workers } $self->all) {
        open my $file, '<', "/proc/$pid/status" or next;
        push @kb, map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$file>;
    }

    return @kb;
}


# each had one outcome, and one that it may have

sub judge {
    my ($self, $when) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::is(sum0(map { values %$_ } values %{$self->{n}}),
        $self->{sent}, "$when: each of $self->{sent} has one outcome");
    Test::More::is_deeply($self->{complaints}, {},
        "$when: and none that it must not have")
        or Test::More::diag($self->tale);
    $self->{complaints} = {};
}


# at the end: no more clients, and nothing is left of them

sub calm {
    my ($self, $when) = @_;

    $when //= 'in the end';

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::ok($self->drain, "$when: all come to an end");
    $self->judge($when);
    Test::More::note($self->tale);

    $_->all_back($when) for $self->all;

    for my $mock (grep { defined } @$self{qw(mock backup)}) {
        Test::More::ok($self->{hub}->until(sub {
            $mock->stats->{in_flight} == 0 }, 10),
            "$when: the provider has nothing to do");
    }

    $self->leases($when) if $self->{store};

    if ($self->{memory} && !$self->{hub}->sanitized) {
        my $now = max($self->memory);
        my $most = max(1.1 * $self->{memory}, $self->{memory} + $slack)
            + ($self->{room} // 0);

        Test::More::cmp_ok($now, '<=', $most, "$when: memory of workers is "
            . "what it was: $self->{memory} KB, then $now");
    }
}


# no slot is held in Redis, and nobody has a share who does not live

sub leases {
    my ($self, $when) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($held, $foreign);

    Test::More::ok($self->{hub}->until(sub {
        ($held, $foreign) = $self->{store}->shares;
        return $held == 0 && $foreign eq '';
    }, 20), "$when: no slot is held in Redis")
        or Test::More::diag("$held held, of the dead: $foreign");
}


# what the rated got is what they may have: "more" is allowed above it, for
# the time that their gateways were alone

sub rates {
    my ($self, $more) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $time = time - $self->{began};
    my $most = $burst + $rate / 60 * $time + ($more // 0);
    my $got = $self->n('rated', 'whole');

    Test::More::cmp_ok($got, '<=', $most, sprintf 'the rated got no more than '
        . 'they may: %d of %d in %.0f s', $got, $most, $time);
    Test::More::cmp_ok($self->n('rated', 'refused'), '>', 0,
        'and wanted more');
}


sub burst { $burst }


# lines about Redis and limits: at most ten in any minute of a gateway

sub quiet {
    my ($self) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    for my $t ($self->all) {
        my %minute;

        $minute{$_}++ for $t->log
            =~ /^(\S+ \d+:\d+):\d+ .* llm: .*(?:redis|limits are)/mg;

        Test::More::cmp_ok(max(0, values %minute), '<=', 10,
            'at most ten lines about Redis in a minute');
    }
}


# whether all gateways share their limits again

sub together {
    my ($self) = @_;

    return !grep { $_->said(qr/shared again/)
        != $_->said(qr/keeps to one part/) } $self->all;
}


sub alone {
    my ($self) = @_;

    return !grep { $_->said(qr/keeps to one part/)
        == $_->said(qr/shared again/) } $self->all;
}


# tokens that were charged, and those that the providers want money for

sub tokens {
    my ($self) = @_;

    my ($prompt, $completion) = (0, 0);

    for my $t ($self->all) {
        $prompt += max(0, $t->metric('llm_tokens_total{type="prompt"}'));
        $completion += max(0, $t->metric('llm_tokens_total{type="completion"}'));
    }

    my @billed = (0, 0);

    for my $mock (grep { defined } @$self{qw(mock backup)}) {
        my @of = $mock->billed;
        $billed[$_] += $of[$_] for 0, 1;
    }

    return ($prompt + $completion, $billed[0] + $billed[1]);
}


sub tale {
    my ($self) = @_;

    return join "\n", map { my $kind = $_; my $n = $self->{n}{$kind};
        my $said = $self->{said}{$kind} // {};
        "$kind: " . join ', ', map({ "$n->{$_} " . substr $_, 0, 60 }
            sort keys %$n), map { "$_ ($said->{$_})" } sort keys %$said }
        sort keys %{$self->{n}};
}


1;
