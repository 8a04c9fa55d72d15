package Test::LLM::Sums;

# The sums of tokens and money as they are told: by lines of the log, metrics,
# admin API, llmctl; and by the journals of the mocks.  All money is in
# millionths of a dollar.

use warnings;
use strict;

use JSON::PP;
use POSIX qw(strftime);
use Test::More ();
use Time::Local qw(timegm);


my $json = JSON::PP->new->utf8->canonical;

my @sums = qw(requests errors cache_hits prompt_tokens cached_tokens
    completion_tokens reasoning_tokens micro saved_micro unpriced);

# dollars per million tokens; free-* has none

my %prices = (
    'alpha-large' => { input => 2.5, cached_input => 1.25, output => 10,
        batch_input => 1.2, batch_output => 4.9 },
    'alpha-small' => { input => 0.15, cached_input => 0.075, output => 0.6,
        batch_input => 0 },
    'beta' => { input => 3, output => 15 },
    'steady' => { input => 1, cached_input => 0.5, output => 2 },
    'embed' => { input => 0.02, output => 0 },
);

# the first target of each route, and what another provider is asked for

my %asked = (alpha => 'alpha-large', nick => 'alpha-large');
my %elsewhere = (alpha => 'alpha-small');


sub prices { return %prices }


# The log: lines that are calls of a key, with the names and the status that
# the accounts use.

sub lines {
    my ($self, @t) = @_;

    @t = @{$self->{gateways}} if !@t;

    return grep { $_->{key} ne '' && $_->{call} }
        map { $self->all_lines($_) } @t;
}


sub all_lines {
    my ($self, $t) = @_;
    return map { $self->line($_) } split /\n/, $t->read('llm.log');
}


sub line {
    my ($self, $text) = @_;

    my $l = $self->{lines}{$text} //= do {
        my $line = $json->decode($text);

        $line->{asked} = asked($line);
        $line->{call} = $line->{endpoint}
            =~ /^(?:chat_completions|completions|embeddings|responses)$/;
        $line->{code} = $line->{error} eq 'client_closed' ? 499
            : $line->{status};
        $line->{charged} = $line->{prompt_tokens} ne '';
        $line->{micro} = micro($line->{usd});
        $line->{time} =~ /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)([+-]\d+):(\d+)/
            or die "time: $line->{time}";
        $line->{at} = timegm($6, $5, $4, $3, $2 - 1, $1)
            - 3600 * $7 - ($7 < 0 ? -60 : 60) * $8;
        $line;
    };

    return $l;
}


# the model as the provider is asked for it; "other": nobody ever answered it

sub asked {
    my ($line) = @_;

    my $model = $line->{model};

    return '' if $line->{error} eq 'model_not_found';
    return 'other' if $model eq 'free-bad';
    return $elsewhere{$model} // $model if $line->{provider} eq 'second';
    return $asked{$model} // $model;
}


sub micro { sprintf '%.0f', 1e6 * ($_[0] || 0) }


# {group => {sum => n}} over lines; groups are joined by a blank

sub of_lines {
    my ($lines, @by) = @_;

    my %rows;

    for my $l (@$lines) {
        my $row = $rows{join ' ', map { value($l, $_) } @by} //= {
            map { $_ => 0 } @sums };

        $row->{requests}++;
        $row->{errors} += $l->{code} >= 400;
        $row->{cache_hits} += $l->{cache} =~ /^(?:hit|joined|stale)$/;
        $row->{"${_}_tokens"} += $l->{"${_}_tokens"} || 0
            for qw(prompt cached completion reasoning);
        $row->{micro} += $l->{micro};
        $row->{saved_micro} += micro($l->{saved_usd});
        $row->{unpriced} += $l->{charged} && $l->{asked} =~ /^free-/;
    }

    return { map { $_ => join ' ', @{$rows{$_}}{@sums} } keys %rows };
}


my %period = (minute => '%Y-%m-%dT%H:%M:00Z', hour => '%Y-%m-%dT%H:00:00Z',
    day => '%Y-%m-%dT00:00:00Z', month => '%Y-%m-01T00:00:00Z');

sub value {
    my ($line, $by) = @_;

    return strftime($period{$by}, gmtime $line->{at}) if $period{$by};

    my $value = $line->{$by eq 'model' ? 'asked' : $by};

    return $value eq '' ? '-' : $value;
}


sub row_sums {
    my ($row) = @_;

    my %row = (%$row, micro => micro($row->{usd}),
        saved_micro => micro($row->{saved_usd}));

    return join ' ', map { $_ // '?' } @row{@sums};
}


# The same from GET /usage.  A team that there is none is null, a provider
# or model that nobody was asked for an empty name.

sub of_usage {
    my ($usage, @by) = @_;

    return { map { my $row = $_;
        join(' ', map { my $v = $row->{$period{$_} ? 'start' : $_};
            defined $v && $v ne '' ? $v : '-' } @by) => row_sums($row) }
        @{$usage->{data} // []} };
}


sub usage {
    my ($self, $t, %query) = @_;

    my $r = $self->api($t, GET => '/usage?' . join '&',
        map { "$_=$query{$_}" } sort keys %query);

    Test::More::diag($r->status . ': ' . ($r->body // ''))
        if $r->status != 200;

    return $r->json // {};
}


# /metrics of a gateway: {family => {"label=value ...", n}}

sub metrics {
    my ($self, $t) = @_;

    my %page;
    my $body = $t->get('/metrics', port => $t->port('PORT_ADMIN'))->body;

    while ($body =~ /^(\w+)(?:\{(.*)\})? (\S+)$/mg) {
        my ($name, $labels, $value) = ($1, $2 // '', $3);
        my %label = $labels =~ /(\w+)="([^"]*)"/g;
        $page{$name}{join ' ', map { "$_=$label{$_}" } sort keys %label}
            = $value;
    }

    return \%page;
}


# what /metrics must say of all lines of a gateway

sub metrics_of_lines {
    my ($lines) = @_;

    my %page;

    for my $l (@$lines) {
        $page{llm_http_requests_total}{'endpoint='
            . ($l->{call} ? $l->{endpoint} : 'other')
            . " status=$l->{code}"}++;

        next if !$l->{call};
        $page{llm_cache_requests_total}{"result=$l->{cache}"}++;

        next if $l->{key} eq '';
        my $team = "team=$l->{team}";
        my $model = "model=$l->{asked}";

        $page{llm_requests_total}{"$model provider=$l->{provider} "
            . "status=$l->{code} $team"}++;
        $page{llm_tokens_total}{"$model $team type=$_"}
            += $l->{"${_}_tokens"} || 0
            for qw(prompt cached completion reasoning);
        $page{llm_cost_usd_total}{"$model $team"} += $l->{micro};
        $page{llm_cache_saved_usd_total}{$team} += micro($l->{saved_usd});
        $page{llm_cache_saved_tokens_total}{$team} += $l->{saved_tokens} || 0;
        $page{llm_unpriced_requests_total}{''}
            += $l->{charged} && $l->{asked} =~ /^free-/;
        $page{attempts}{''} += $l->{attempts} || 0;
    }

    return flat(\%page);
}


# {"family labels" => n}; series that are 0 may be missing

sub flat {
    my ($page) = @_;

    my %flat;

    for my $family (qw(llm_requests_total llm_http_requests_total
        llm_tokens_total llm_cost_usd_total llm_cache_requests_total llm_cache_saved_usd_total
        llm_cache_saved_tokens_total llm_unpriced_requests_total attempts))
    {
        $flat{"$family $_"} = $page->{$family}{$_}
            for grep { $page->{$family}{$_} } keys %{$page->{$family}};
    }

    return \%flat;
}


sub metrics_of_page {
    my ($page) = @_;

    my %page = (%$page, attempts => { '' => 0 });

    for my $family (qw(llm_cost_usd_total llm_cache_saved_usd_total)) {
        $page{$family} = { map { $_ => micro($page->{$family}{$_}) }
            keys %{$page->{$family} // {}} };
    }

    $page{attempts}{''} += $_
        for values %{$page->{llm_upstream_attempts_total} // {}};

    return flat(\%page);
}


# GET /teams, and what it must say: the sums of day and month, and what is
# spent of a budget

sub of_teams {
    my ($self, $t) = @_;

    my %told;

    for my $team (@{$self->api($t, GET => '/teams')->json->{data} // []}) {
        my $name = $team->{name};

        $told{"$name $_"} = row_sums($team->{$_}) for qw(day month);
        $told{"$name spent"} = micro($team->{spend}{usd}) if $team->{spend};
    }

    # who has done nothing has no line

    return { map { $_ => $told{$_} } grep { $told{$_} =~ /[1-9]/ }
        keys %told };
}


sub teams_of_lines {
    my ($lines) = @_;

    my $sums = of_lines($lines, 'team');
    my %told;

    for my $name (keys %$sums) {
        $told{"$name $_"} = $sums->{$name} for qw(day month);
        $told{"$name spent"} = (split / /, $sums->{$name})[7]
            if $name =~ /^(?:red|green|last)$/;
    }

    return { map { $_ => $told{$_} } grep { $told{$_} =~ /[1-9]/ }
        keys %told };
}


# llmctl usage --json

sub llmctl {
    my ($self, $t, @arguments) = @_;

    local $ENV{LLMCTL_URL} = 'http://127.0.0.1:' . $t->port('PORT_ADMIN');
    local $ENV{LLMCTL_SECRET_FILE} = $t->path('admin.secret');
    local $ENV{LLMCTL_SECRET};
    delete $ENV{LLMCTL_SECRET};

    return eval { $json->decode(scalar
        qx($t->{build}/llmctl @arguments --json 2>&1)) } // {};
}


# the price of what a line says, by the file: no way around the accounts

sub price {
    my ($line) = @_;

    my $p = $prices{$line->{asked}} or return 0;
    my ($in, $cached, $out) = map { $_ || 0 }
        @$line{qw(prompt_tokens cached_tokens completion_tokens)};

    # in millionths of a millionth, so that whole numbers are added
    my $sum = ($in - $cached) * sprintf('%.0f', $p->{input} * 1e6)
        + $cached * sprintf('%.0f', ($p->{cached_input} // $p->{input}) * 1e6)
        + $out * sprintf('%.0f', $p->{output} * 1e6);

    return int(($sum + 500_000) / 1e6);
}


# The journals: {id => [requests]}, by the x-request-id that was passed on.

sub journal {
    my ($self) = @_;

    my %by;

    for my $name (sort keys %{$self->{mocks}}) {
        push @{$by{$_->{headers}{'x-request-id'}}}, $_
            for $self->{mocks}{$name}->journal;
    }

    return \%by;
}


# what an answer of the journal has reported, undef: nothing, or not all

sub usage_of {
    my ($request) = @_;

    my $h = $request->{headers};
    my $embeddings = $request->{path} =~ /embeddings/;

    return undef if $request->{status} != 200
        || ($request->{ended} // '') ne 'done'
        || ($h->{'x-mock-usage'} // '') eq 'none' || $h->{'x-mock-cut'};

    my $prompt = $h->{'x-mock-prompt-tokens'} // 10;
    my $completion = $embeddings ? 0
        : $h->{'x-mock-completion-tokens'} // 20;
    my $cached = $embeddings ? 0 : $h->{'x-mock-cached-tokens'} // 0;
    my $reasoning = $embeddings ? 0 : $h->{'x-mock-reasoning-tokens'} // 0;

    # more than the whole cannot be a part of it

    $cached = $prompt if $cached > $prompt;
    $reasoning = $completion if $reasoning > $completion;

    return "$prompt $cached $completion $reasoning";
}


1;
