package Test::LLM::Sums;

# Mixed requests by teams and keys to one or more gateways.  Sums/Read.pm gets
# the same sums out of the log, the metrics, the admin API and llmctl, and
# Sums/Check.pm compares them.

use warnings;
use strict;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use List::Util qw(shuffle);
use Test::More ();
use Time::HiRes qw(time);

use Test::LLM::HTTP;
use Test::LLM::Sums::Check;
use Test::LLM::Sums::Read;


my $admin = 'sk-admin-' . sha256_hex('admin');

my %limits = (
    red1 => { team => 'red', concurrency => 64 },
    red2 => { team => 'red', models => ['alpha'], requests_per_minute => 2,
        concurrency => 64 },
    blue1 => { team => 'blue', concurrency => 2,
        queue => { size => 1, timeout_ms => 40 } },
    blue2 => { team => 'blue', tokens_per_minute => 5000,
        concurrency => 64 },
    poor => { team => 'blue', requests_per_day => 8, concurrency => 64 },
);


# gateways => [Test::LLM ...]; configures and starts them

sub new {
    my ($class, %options) = @_;

    my $self = bless { serial => 0, kinds => {}, live => [],
        secret => { stranger => 'sk-llm-' . 'x' x 40 }, %options }, $class;

    my $first = $self->{gateways}[0];

    $first->team('red', budget => { usd => 1000, period => 'month' });
    $first->team('blue');
    $first->key($_, %{$limits{$_}}) for sort keys %limits;
    $self->{secret}{$_} = $first->secret($_) for keys %limits;
    $self->{ready} = [qw(red1 red1 red1 red2 blue1 blue2 poor)];

    $self->{mocks} = {
        first => $first->mock('--journal', 8192),
        second => $first->mock('--journal', 8192),
    };

    if ($self->{redis}) {
        $self->{redis} = $first->redis;
        $first->token(REDIS => $self->{redis}->url . ' timeout=500ms');
    }

    $self->script;
    rmdir $_->path('state') for @{$self->{gateways}};
    $self->gateway($_) for @{$self->{gateways}};

    # a name that only clients have told is "other" until it was answered

    for my $t (@{$self->{gateways}}) {
        for my $model (qw(free-a free-b)) {
            my $r = $t->chat("first of $model", key => 'red1',
                model => $model);
            die "$model: " . $r->status if $r->status != 200;
        }
    }

    return $self;
}


# the log_format is the one that is shipped

sub gateway {
    my ($self, $t) = @_;

    my $first = $self->{gateways}[0];
    my $shipped = do {
        open my $in, '<', "$t->{top}/config/nginx.conf" or die $!;
        local $/;
        <$in>;
    };
    my ($format) = $shipped =~ /^ *(log_format llm .*?;)$/ms
        or die 'no log_format in config/nginx.conf';

    $t->{tenants} = $first->{tenants};
    $t->write('tenants.json', $t->{tenants});
    $t->write('prices.json', { prices() });
    $t->write('admin.secret', "$admin\n");
    $t->token($_ => $first->token($_)) for qw(MOCK MOCK2);
    $t->token(REDIS => $first->token('REDIS') // 'off');

    $t->gateway(
        http => "$format llm_prices %%DIR%%/prices.json;"
            . ' llm_internal unix:%%DIR%%/internal.sock;'
            . ' upstream second { server %%MOCK2%% max_fails=0;
                keepalive 32; }'
            . ($self->{redis} ? '' : ' llm_state %%DIR%%/state;'),
        server => '%%BOTH%% listen unix:%%DIR%%/internal.sock;
            location /llm/second/ { internal;
                proxy_pass http://second/v1/; %%PROXY%% }',
        location => 'llm_cache on; llm_retry tries=3 base=2ms cap=20ms
            budget=100 floor=50;
            llm_breaker off; access_log %%DIR%%/llm.log llm;',
        provider => '; llm_provider second uri=/llm/second/
            key=file:%%DIR%%/provider.key',
        routes => 'llm_route alpha mock:alpha-large second:alpha-small;
            llm_route nick mock:alpha-large;
            llm_route beta mock second; llm_route steady mock;
            llm_route embed mock; llm_route free-* second;',
        admin => 'location /admin/v1/ {
            llm_admin file:%%DIR%%/admin.secret; }' . ($self->{admin} // ''),
        zone => $self->{zone} // '');
}


# "busy" fails now and then, "ill" always at the first provider

sub script {
    my ($self) = @_;

    my $rules = [
        { match => { body => '"busy' }, every => 3, status => 503 },
        { match => { body => '"busy' }, every => 3, status => 429,
          headers => { 'retry-after-ms' => '5' } },
        {},
    ];

    $self->{mocks}{second}->script(@$rules);
    $self->{mocks}{first}->script({ match => { body => '"ill' },
        status => 500 }, @$rules);
}


# teams and keys that come while requests run

sub make {
    my ($self, $name, %members) = @_;

    my $t = $self->{gateways}[0];

    if ($members{team} ne 'red') {
        my $r = $self->api($t, PUT => "/teams/$members{team}",
            { budget => { usd => 0.02, period => 'day' } });
        Test::More::is($r->status, 201, "team $members{team}, too");
    }

    my $r = $self->api($t, POST => '/keys', { name => $name, %members });
    Test::More::is($r->status, 201, "key $name is made meanwhile");
    $self->{secret}{$name} = $r->json->{secret};

    for my $other (@{$self->{gateways}}) {
        $other->until(sub { $self->api($other, GET => "/keys/$name")->status
            == 200 }, 2) or die "key $name is not known everywhere";
    }

    push @{$self->{ready}}, ($name) x 3;
}


sub admin { $admin }


sub api {
    my ($self, $t, $method, $path, $body) = @_;

    my $r = Test::LLM::HTTP->start(method => $method,
        path => "/admin/v1$path", port => $t->port('PORT_ADMIN'),
        headers => [Authorization => "Bearer $admin"],
        $body ? (body => $body) : ());
    $r->wait;

    return $r;
}


# n requests of all kinds, at most twelve at a time.  The kinds are dealt, so
# that each has its part whatever the seed.

my @kinds = (('json') x 6, ('stream') x 5, ('hit') x 4, ('joined') x 2,
    ('busy') x 4, ('ill') x 4, ('abort') x 5, ('early') x 2, ('compare') x 3,
    ('embed') x 3, ('responses') x 4, ('unpriced') x 3, ('silent') x 2,
    ('broken') x 2, ('nobody') x 2, ('wrong') x 2, qw(large odd stranger),
    ('failing') x 2, qw(line tokens));

sub crowd {
    my ($self, $n) = @_;

    while ($n-- > 0) {
        $self->{deck} = [shuffle @kinds] if !@{$self->{deck} // []};
        my $kind = pop @{$self->{deck}};
        my $key = $self->{ready}[rand @{$self->{ready}}];
        my $t = $self->{gateways}[rand @{$self->{gateways}}];

        $self->{kinds}{$kind}++;

        # some come together
        my $more = $kind eq 'joined' ? 3
            : $kind =~ /^(?:line|tokens)$/ ? 4 : 1;

        $n -= $more - 1;
        $self->drain(12 - $more) if $more > 1;
        $self->start($t, $kind, $key, ++$self->{serial}) for 1 .. $more;
    }

    $self->drain(0);
}


# requests that are under way while nginx is reloaded

sub reload {
    my ($self, $t) = @_;

    $self->start($t, $_, 'red1', ++$self->{serial})
        for qw(joined joined line line abort abort abort early);
    Test::More::ok($t->until(sub {
        $t->metric('llm_ledger_tickets_used') > 2 }, 5),
        'a reload while requests are under way');
    $t->reload;
    $self->drain(0);
}


# each answer has a usage of its own, told by headers

sub start {
    my ($self, $t, $kind, $key, $i) = @_;

    my $prompt = 20 + int rand 400;
    my $completion = 5 + int rand 200;
    my %mock = ('prompt-tokens' => $prompt,
        'cached-tokens' => int rand(2) ? int rand $prompt : 0,
        'completion-tokens' => $completion,
        'reasoning-tokens' => int rand(3) ? 0 : int rand $completion);
    my $text = "text $i";
    my $model = (qw(alpha beta nick))[rand 3];
    my $path = '/v1/chat/completions';
    my (%body, %spec, $until);

    $body{stream} = JSON::PP::true if $kind eq 'stream' || int(rand 2)
        && $kind =~ /^(?:busy|ill|responses|hit|unpriced|silent|joined)$/;
    $body{max_tokens} = 300 if int rand 2;

    if ($kind eq 'hit') {
        $text = 'the same ' . int rand 3;
        $model = $body{stream} ? 'alpha' : 'nick';
        delete $body{max_tokens};

    } elsif ($kind eq 'joined') {
        $text = 'together ' . int($self->{kinds}{joined});
        $model = 'beta';
        $key = $self->{ready}[0];
        delete @body{qw(max_tokens stream)};
        $mock{'delay-ms'} = 60;

    } elsif ($kind =~ /^(?:busy|ill)$/) {
        $text = "$kind $i";
        $model = (qw(alpha beta))[rand 2];

    } elsif ($kind =~ /^(?:abort|early)$/) {
        $model = 'steady';
        $body{stream} = JSON::PP::true;
        @mock{qw(chunks chunk-bytes pace-ms)} = (40, 10, 2);
        $mock{'delay-ms'} = 200 if $kind eq 'early';
        $until = $kind eq 'early' ? 0 : 1 + int rand 38;

    } elsif ($kind eq 'unpriced') {
        $model = 'free-' . (qw(a b))[rand 2];

    } elsif ($kind eq 'silent') {
        $mock{usage} = 'none';

    } elsif ($kind eq 'broken') {
        $body{stream} = JSON::PP::true;
        @mock{qw(cut cut-events)} = ('close', 4);

    } elsif ($kind eq 'nobody') {
        $model = (qw(nobody free beta))[rand 3];
        $key = 'red2' if $model eq 'beta';

    } elsif ($kind eq 'large') {
        $key = 'blue2';
        $body{max_tokens} = 1_000_000;

    } elsif ($kind eq 'tokens') {
        $key = 'blue2';
        $body{max_tokens} = 2000;
        $mock{'delay-ms'} = 60;

    } elsif ($kind eq 'line') {
        $key = 'blue1';
        $mock{'delay-ms'} = 150;
        delete @body{qw(max_tokens)};

    } elsif ($kind eq 'stranger') {
        $key = 'stranger';

    } elsif ($kind eq 'odd') {
        @mock{qw(reasoning-tokens cached-tokens)} = (5000, 5000);

    } elsif ($kind eq 'failing') {
        $key = 'red1';
        %mock = (status => (400, 500)[$self->{failing}++ % 2]);
        $model = (qw(beta free-bad))[rand 2];
    }

    $body{model} = $model;

    if ($kind eq 'embed') {
        $path = '/v1/embeddings';
        %body = (model => 'embed', input => $text);
        delete @mock{qw(cached-tokens completion-tokens reasoning-tokens)};

    } elsif ($kind eq 'responses') {
        $path = '/v1/responses';
        $body{input} = $text;
        delete $body{max_tokens};

    } else {
        $body{messages} = [{ role => 'user', content => $text }];
    }

    if ($kind eq 'compare') {
        $path = '/v1/compare';
        delete @body{qw(model stream)};
        $body{models} = [qw(alpha beta free-a nobody)[0 .. 1 + int rand 3]];

    } elsif ($kind eq 'wrong') {
        delete $body{messages};
    }

    if (defined $until) {
        $spec{on_event} = sub {
            $_[0]->abort if !--$until;
        } if $until;
    }

    push @{$self->{live}}, my $r = $t->start_post($path, \%body, %spec,
        headers => [Authorization => "Bearer $self->{secret}{$key}",
            map { ("x-mock-$_" => $mock{$_}) } sort keys %mock],
        timeout => 30, int rand(2) ? (port => $t->port('PORT_BOTH')) : ());

    # an early one leaves while others are waited for
    $r->{leaves} = time + rand 0.15 if $kind eq 'early';

    $self->drain(11);
}


sub drain {
    my ($self, $most) = @_;

    while (@{$self->{live}} > $most) {
        my $r = $self->{live}[0];
        $r->wait(sub { ($_[0]{leaves} // 1e18) < time }, 0.02);
        $_->abort for grep { ($_->{leaves} // 1e18) < time && !$_->end }
            @{$self->{live}};
        @{$self->{live}} = grep { !$_->end } @{$self->{live}};
    }
}


# waits until nothing is under way and the log has what the accounts have

sub quiet {
    my ($self, $t) = @_;

    $t->until(sub { $t->metric('llm_ledger_tickets_used') == 0 }, 10);
    $t->until(sub {
        my $told = 0;
        $told += $_ for values %{$self->metrics($t)->{llm_requests_total}};
        return $told == $self->lines($t);
    }, 3);
}


1;
