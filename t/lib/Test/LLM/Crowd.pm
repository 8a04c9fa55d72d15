package Test::LLM::Crowd;

# Clients of all kinds, as many as told at a time, for the tests of chaos.
# Each kind has a team of its own, so that its day can be checked:
#
#   whole  waits for its answer
#   slow   streams 240000 bytes and reads a little at a time
#   leave  leaves: in line, before its answer, in the middle of it
#   fault  is cut or refused by the provider
#   rated  waits for its rate, too
#
# Each client has one outcome: completed, broken or left, counted by team.
# What nobody may come to is in "bad".

use warnings;
use strict;

use Test::More ();
use Time::HiRes qw(time);

use Test::LLM::HTTP;


# All numbers of slots are even, so that each of two gateways has a half.

my %team = (
    whole => { concurrency => 12 },
    slow  => { concurrency => 8 },
    leave => { concurrency => 8 },
    fault => { concurrency => 6 },
    rated => { concurrency => 4 },
);

my %day = (requests_per_day => 1_000_000_000,
    tokens_per_day => 1_000_000_000_000,
    budget => { usd => 1_000_000, period => 'day' });

my %is = (
    whole => [[json => {}], [stream => { stream => 1 }]],
    slow  => [[slow => { stream => 1, rcvbuf => 4096 }]],
    rated => [[json => {}], [stream => { stream => 1 }]],
    leave => [[leaves => { stream => 1 }], [leaves => {}],
        [line => { stream => 1 }], [line => {}]],
    fault => [[json => {}], [stream => { stream => 1 }]],
);

my @kinds = (('whole') x 20, ('slow') x 6, ('leave') x 8, ('fault') x 6,
    ('rated') x 2);


# gateways => [$t, ...] with PORT_BOTH in their server block, clients => how
# many at a time, is => { team => [[what it does => its request], ...] }

sub new {
    my ($class, %options) = @_;

    my $self = bless { clients => 200, %options,
        is => { %is, %{$options{is} // {}} }, live => [], bad => {},
        kills => [], map { $_ => 0 } qw(open sent killed at_kill) }, $class;

    for my $outcome (qw(completed broken left)) {
        $self->{$outcome} = { map { $_ => 0 } keys %team };
    }

    return $self;
}


# limits of a team, and those of the day that all have but never reach

sub teams { return sort keys %team }
sub slots { return $team{$_[1]}{concurrency} }
sub team  { return (%{$team{$_[1]}}, %day) }


# puts teams and keys into the tenants file of $t: three keys a team

sub tenants {
    my ($self, $t) = @_;

    my %queue = (size => 400, timeout_ms => 30_000);

    for my $name (keys %team) {
        $t->team($name, $self->team($name));
        $t->key("$name-$_", team => $name, concurrency => 6,
            queue => \%queue) for 1, 2, 3;
    }

    $t->key("rated-$_", team => 'rated', requests_per_minute => 600,
        burst_requests => 5, queue => { %queue, rates => \1 }) for 1, 2, 3;
}


# Where input is 2 and output 4 dollars a million an answer is 10 * 2 + 20 * 4
# = 100 millionths of a dollar; the long ones have 60000 tokens.

sub provider {
    my ($self, $mock) = @_;

    $self->{mock} = $mock;

    $mock->script(
        { match => { model => 'slow' }, chunks => 60, chunk_bytes => 4000,
          prompt_tokens => 10, completion_tokens => 60_000 },
        { match => { model => 'fault' }, every => 7, status => 503 },
        { match => { model => 'fault' }, every => 5, cut => 'rst' },
        { match => { model => 'fault' }, every => 4, status => 500,
          delay_ms => 20 },
        { match => { model => 'fault', stream => \1 }, every => 3,
          cut => 'close', cut_events => 4 },
        { match => { model => 'leave', stream => \1 }, delay_ms => 20,
          chunks => 20, pace_ms => 10 },
        { match => { stream => \1 }, delay_ms => 10, pace_ms => 4 },
        { delay_ms => 40 },
    );
}


# a new client; the slow ones are where the socket's buffer is no help

sub client {
    my ($self) = @_;

    my $team = $kinds[rand @kinds];
    my $is = $self->{is}{$team};
    my ($kind, $spec) = @{$is->[rand @$is]};
    my %spec = %$spec;
    my $t = $self->{gateways}[rand @{$self->{gateways}}];

    $spec{port} = $t->port('PORT_BOTH') if $kind eq 'slow' || rand() < 0.5;
    $spec{headers} = { Connection => 'close' } if rand() < 0.3;

    my $r = $t->start_chat('<' . ++$self->{sent} . '>', key => "$team-"
        . (1 + int rand 3), model => $team, timeout => 60,
        body => { max_tokens => 20 }, %spec);

    return { r => $r, t => $t, team => $team, kind => $kind, began => time,
        until => time + 0.005 + rand($kind eq 'line' ? 0.05 : 0.6),
        rst => rand() < 0.5 };
}


# what a client does meanwhile

sub live {
    my ($c) = @_;

    my $r = $c->{r};

    if ($c->{kind} eq 'leaves' || $c->{kind} eq 'line') {
        return if time < $c->{until};
        $c->{left} = 1;
        $c->{rst} ? $r->abort : $r->close;

    } elsif ($c->{kind} eq 'slow') {
        # reads a little at a time
        (time * 20) % 5 ? $r->pause : $r->resume;
        $r->resume if time > $c->{began} + 5;
    }
}


# the one outcome of a client that has ended

sub ended {
    my ($self, $c) = @_;

    my ($r, $team) = @$c{qw(r team)};
    my $status = $r->status // 0;
    my $bad;

    if ($c->{left}) {
        $self->{left}{$team}++;
        return;
    }

    my $whole = 0;

    if (!defined $r->error && $r->complete && $status == 200) {
        $whole = $r->header('content-type') =~ /event-stream/
            ? ($r->data)[-1] eq '[DONE]' : defined $r->json->{usage};
        $bad = 'an answer that is not whole' if !$whole;

    } elsif (!defined $r->error && $r->complete) {
        # the mock's errors get through to "fault" alone
        $bad = "status $status " . $r->body;

    } elsif (($r->error // '') eq 'timeout') {
        $self->{bad}{"$team: no outcome"}++;

    } elsif (!$self->died($c)) {
        # by the mock, or with its worker
        $bad = sprintf 'cut without a kill: %s, status %s, after %.2f s',
            $r->error // 'no error', $status, $r->end;
    }

    $self->{$whole ? 'completed' : 'broken'}{$team}++;
    $self->{bad}{"$team: $bad"}++ if $bad && $team ne 'fault';
}


# whether a worker was killed at the client's gateway just before its end; who
# pauses hears of it later

sub died {
    my ($self, $c) = @_;

    my $end = $c->{began} + $c->{r}->end;

    return scalar grep { $_->{t} == $c->{t} && $_->{at} < $end
        && $_->{at} > $end - 3 } @{$self->{kills}};
}


# lets the clients live until a condition holds; new ones come while "open"

sub run {
    my ($self, $done, $patience) = @_;

    my $live = $self->{live};

    return $self->{gateways}[0]->until(sub {
        live($_) for grep { !defined $_->{r}->end } @$live;
        $self->ended($_) for grep { defined $_->{r}->end } @$live;
        @$live = grep { !defined $_->{r}->end } @$live;

        return 1 if $done->();
        push @$live, $self->client
            while $self->{open} && @$live < $self->{clients};
        return 0;
    }, $patience);
}


sub run_for {
    my ($self, $duration) = @_;

    my $until = time + $duration;

    $self->{open} = 1;
    $self->run(sub { time > $until }, $duration + 1);
}


# nobody comes any more: tests that all come to an end, and only to ends that
# they may have

sub drain {
    my ($self, $when) = @_;

    $self->{open} = 0;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    Test::More::ok($self->run(sub { !@{$self->{live}} }, 90),
        "$when: everybody comes to an end");

    my $n = 0;
    $n += $_ for map { values %{$self->{$_}} } qw(completed broken left);

    Test::More::is($n, $self->{sent}, "$when: each has one outcome");
    Test::More::is_deeply($self->{bad}, {}, "$when: and none that it must "
        . "not have");
}


# kills any worker, also one that is shutting down; that one is not replaced

sub kill_one {
    my ($self, $t) = @_;

    my @workers = $t->workers(1);
    my $pid = $workers[rand @workers];

    $self->{at_kill} += $self->{mock}->stats->{in_flight};
    $self->{killed}++;
    push @{$self->{kills}}, { t => $t, at => time - 0.1 };

    return $t->kill_worker('KILL', $pid) if grep { $_ == $pid } $t->workers;

    $t->allow(qr/\[alert\] .*process $pid exited on signal 9/,
        qr/\[alert\] .*locked by $pid/);
    kill 'KILL', $pid;
}


# The mock's records: which request of which team got there, and what ended
# well.  They are too many for a JSON parser in Perl.

sub records {
    my ($self) = @_;

    my ($r) = Test::LLM::HTTP->all({ port => $self->{mock}->port,
        timeout => 60, path => '/__mock/journal' });
    my (%reached, %done);

    for my $record (split /\{"index":/, $r->body) {
        my ($text) = $record =~ /"content\\":\\"<(\w+)>/ or next;
        my ($team) = $record =~ /"model\\":\\"(\w+)\\"/ or next;

        $reached{$team}{$text}++;
        $done{$team}++ if $record =~ /"ended":\s*"done"/
            && $record =~ /"status":\s*200\b/;
    }

    return (\%reached, \%done);
}


# in millionths of a dollar

sub billed {
    my ($self) = @_;

    my ($in, $out) = $self->{mock}->billed;

    return 2 * $in + 4 * $out;
}


# what has become of them, in words

sub tale {
    my ($self) = @_;

    return join ', ', map { my $team = $_; "$team: " . join ', ',
        map { "$self->{$_}{$team} " . ($_ eq 'completed' ? 'whole' : $_) }
        qw(completed broken left) } sort keys %team;
}


1;
