package Test::LLM::Sums;

# What is told in different places must be the same, to the unit.

use warnings;
use strict;

use JSON::PP;
use Test::More import => [qw(cmp_ok diag is is_deeply note ok)];
use Time::HiRes qw(time);


my @names = qw(team key model provider);


# {name => value} of a place and what it must be.  What other gateways have
# counted is there within two seconds, the rest at once.

sub same {
    my ($self, $t, $get, $expected, $what) = @_;

    my ($got, @wrong);

    $t->until(sub {
        $got = $get->();
        @wrong = grep { ($got->{$_} // 'nothing') ne
            ($expected->{$_} // 'nothing') } sort keys %{{ %$got,
            %$expected }};
        return !@wrong;
    }, @{$self->{gateways}} > 1 ? 2 : 0);

    ok !@wrong, $what or diag join "\n", map { "$_: "
        . ($got->{$_} // 'nothing') . ', expected '
        . ($expected->{$_} // 'nothing') } @wrong;
}


# the totals, the metrics and the teams

sub equal {
    my ($self, $what) = @_;

    my @t = @{$self->{gateways}};

    $self->quiet($_) for @t;

    my @lines = $self->lines;

    for my $t (@t) {
        my $where = @t == 1 ? $what : "$what, " . $t->port('PORT_ADMIN');

        $self->same($t, sub { { all => row_sums($self->usage($t)->{total}) } },
            { all => of_lines(\@lines)->{''} },
            "$where: the accounts are what the log says");

        $self->same($t, sub { metrics_of_page($self->metrics($t)) },
            metrics_of_lines([$self->all_lines($t)]),
            "$where: and so are the metrics");

        $self->same($t, sub { $self->of_teams($t) },
            teams_of_lines(\@lines), "$where: and the teams");
    }

    my @wrong = map { JSON::PP->new->canonical->encode($_) }
        grep { $_->{micro} != price($_) } @lines;
    is "@wrong", '', "$what: each line costs what the prices say";

    my %ids;
    $ids{$_->{id}}++ for @lines;
    is join(' ', grep { $ids{$_} > 1 } keys %ids), '',
        "$what: one line for each call";
}


# every grouping of every period, of all gateways and of this one

sub everything {
    my ($self, $t) = @_;

    my @lines = $self->lines;
    my @own = $self->lines($t);

    for my $n (0 .. 15) {
        my @by = map { $names[$_] } grep { $n >> $_ & 1 } 0 .. 3;
        my $by = @by ? join(' and ', @by) : 'nothing';

        for my $period (qw(day month hour minute)) {
            next if $period =~ /hour|minute/ && $by =~ /key|provider/;

            $self->grouped($t, "usage by $by, $period",
                $period eq 'minute' ? \@own : \@lines, [$period, @by],
                period => $period, @by ? (group_by => join ',', @by) : ());
        }

        $self->grouped($t, "usage by $by, summed up", \@lines, \@by,
            buckets => 'false', @by ? (group_by => join ',', @by) : ());
    }

    for my $period (qw(day month)) {
        $self->same($t, sub { of_usage($self->llmctl($t, 'usage', "--$period",
            '--by', join ',', @names), $period, @names) },
            of_lines(\@lines, $period, @names),
            "llmctl usage by all names, $period");
    }

    $self->same($t, sub { of_usage($self->llmctl($t, 'usage', '--sum',
        '--by', 'team'), 'team') }, of_lines(\@lines, 'team'),
        'llmctl usage by team, summed up');

    for my $name (@names) {
        my $rows = of_lines(\@lines, $name);
        delete $rows->{'-'};

        $self->same($t, sub { return { map { $_ =>
            row_sums($self->usage($t, $name => $_)->{total}) } keys %$rows } },
            $rows, "usage of one $name alone");
    }
}


sub grouped {
    my ($self, $t, $what, $lines, $by, %query) = @_;

    $self->same($t, sub { of_usage($self->usage($t, %query), @$by) },
        of_lines($lines, @$by), $what);
}


# each answer that a provider reported is charged so, once, and to the one
# who asked

sub reported {
    my ($self, $least) = @_;

    my @lines = $self->lines;
    my $journal = $self->journal;
    my ($reported, $attempts, $told) = (0, 0, 0);
    my (@wrong, @twice, @free);

    for my $l (@lines) {
        my @asked = @{delete $journal->{$l->{id}} // []};
        my @usage = grep { defined } map { usage_of($_) } @asked;
        my $charged = join ' ', map { $l->{"${_}_tokens"} }
            qw(prompt cached completion reasoning);

        $told += $l->{attempts} || 0;
        $attempts += @asked;
        push @twice, $l->{id} if @usage > 1;
        push @free, $l->{id} if !@asked && $l->{charged};

        # who left may have gone just before the end
        next if $l->{error} eq 'client_closed';

        $reported += @usage;
        push @wrong, "$l->{id}: @usage, charged: $charged"
            if @usage && $usage[0] ne $charged;
    }

    is_deeply \@wrong, [], 'what a provider reported is what was charged';
    is_deeply \@twice, [], 'no answer came twice';
    is_deeply \@free, [], 'nothing is charged that nobody was asked for';
    is_deeply [keys %$journal], [], 'each call of a provider has its line';
    is $told, $attempts, 'the attempts are what the providers saw';
    cmp_ok $reported, '>=', $least, "$reported answers reported";
}


# all that was to be there was there

sub kinds {
    my ($self) = @_;

    my @t = @{$self->{gateways}};
    my %n;

    for my $l ($self->lines) {
        $n{"$_ $l->{$_}"}++ for qw(key team endpoint cache error provider);
        $n{"status $l->{code}"}++;
        $n{retried}++ if ($l->{attempts} || 0) > 1;
        $n{'another model'}++ if $l->{asked} eq 'alpha-small';
        $n{'left in mid-stream'}++ if $l->{error} eq 'client_closed'
            && $l->{status} == 200 && $l->{charged};
        $n{$_}++ for grep { $l->{"${_}_tokens"} } qw(cached reasoning);
    }

    my @expected = ('provider mock', 'provider second', 'retried',
        'another model', 'left in mid-stream', 'cached', 'reasoning',
        map { my ($what, @of) = split; map { "$what $_" } @of }
        'key red1 red2 blue1 blue2 poor made1 made2', 'team red blue green',
        'endpoint chat_completions embeddings responses',
        'cache miss hit joined', 'status 200 400 404 413 429 499 500',
        'error client_closed insufficient_quota upstream_error');

    is join(', ', grep { !$n{$_} } @expected), '', 'all was there';
    note join ', ', map { "$_: " . ($n{$_} // 0) } @expected;

    my %refused;

    for my $t (@t) {
        my $reasons = $self->metrics($t)->{llm_refusals_total};
        $refused{$_} += $reasons->{"reason=$_"} || 0
            for map { /=(.*)/ } keys %$reasons;
    }

    # of the fleet's slots a gateway may have none, so that its line is full

    is join(', ', grep { !$refused{$_} } qw(key model requests tokens
        requests_day tokens_day budget too_large queue_full),
        @t == 1 ? 'queue_timeout' : ()), '', 'refused by each limit';
    note 'refused: ' . join ', ', map { "$_: $refused{$_}" } sort keys
        %refused;
}


# a comparison has a line of its own, which is no call, and each leg one that
# is

sub compared {
    my ($self, $least) = @_;

    my @outer = grep { $_->{endpoint} eq 'compare' }
        map { $self->all_lines($_) } @{$self->{gateways}};
    my @asked = sort map { $_->{id} } grep { $_->{error} eq '' } @outer;
    my %legs;

    $_->{id} =~ /^(.+)-\d+$/ && $legs{$1}++ for $self->lines;

    cmp_ok scalar @asked, '>=', $least, @asked . ' comparisons';
    is join('', map { $_->{prompt_tokens} . $_->{usd} . $_->{saved_usd} }
        @outer), '', 'are charged nothing themselves';
    is_deeply [sort keys %legs], \@asked, 'their legs have lines';
    is scalar(grep { $_ < 2 } values %legs), 0, 'all of them';
}


1;
