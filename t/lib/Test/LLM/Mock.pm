package Test::LLM::Mock;

# Drives the mock provider (tests/mock/README.md) through its control
# endpoints.

use warnings;
use strict;

use Carp;
use JSON::PP;

use Test::LLM::HTTP;


sub new {
    my ($class, %self) = @_;
    return bless { %self }, $class;
}


sub port { $_[0]{port} }
sub pid  { $_[0]{pid} }

# for requests below /__mock/: never TLS, and never closed
sub control_port { $_[0]{control} }


# script({...}, {...}): the rules, in order; none: the usual answers

sub script {
    my ($self, @rules) = @_;
    return $self->control(POST => '/__mock/script', { rules => \@rules });
}


sub reset {
    my ($self) = @_;
    return $self->control(POST => '/__mock/reset', {});
}


sub stats {
    my ($self) = @_;
    return $self->control(GET => '/__mock/stats');
}


# listen(open => 0), listen(accept => 0), listen(drop => 1): see the README
# of the mock; refuse(): as a machine that died, serve(): as at the start

sub listen {
    my ($self, %what) = @_;

    $_ = $_ ? JSON::PP::true : JSON::PP::false
        for @what{grep { $_ ne 'backlog' } keys %what};

    return $self->control(POST => '/__mock/listen', \%what);
}


sub refuse { $_[0]->listen(open => 0, drop => 1) }
sub serve  { $_[0]->listen(open => 1, accept => 1) }


# the tokens that a provider would ask money for: (prompt, completion, cached)

sub billed {
    my ($self) = @_;

    my $stats = $self->stats;

    return @$stats{qw(prompt_tokens completion_tokens cached_tokens)};
}


# the requests so far, each a hash

sub journal {
    my ($self, %query) = @_;

    my $answer = $self->control(GET => '/__mock/journal' . query(%query));

    return @{$answer->{requests}};
}


# when they came, in ms since the script was set, in order of arrival

sub arrivals {
    my ($self) = @_;

    my $answer = $self->control(GET => '/__mock/journal');

    return map { $_->{arrival_ms} - $answer->{since_ms} }
        @{$answer->{requests}};
}


# the texts of the chat requests, in order of arrival; "<" and ">" around one
# are left out

sub texts {
    my ($self) = @_;

    return map { $_->{body} =~ /"content":"<?(.*?)>?"/ }
        sort { $a->{arrival_ms} <=> $b->{arrival_ms} } $self->journal;
}


# wait(requests => 3): the stats as soon as that holds, undef if it never does

sub wait {
    my ($self, %query) = @_;

    my $r = Test::LLM::HTTP->start(port => $self->{control},
        path => '/__mock/wait' . query(%query),
        timeout => 5 + ($query{timeout_ms} // 5000) / 1000);

    $r->wait;

    return $r->status && $r->status == 200 ? $r->json : undef;
}


# the body bytes of answer I (rule member "keep")

sub sent {
    my ($self, $index) = @_;

    my ($r) = Test::LLM::HTTP->all({ port => $self->{control},
        path => "/__mock/sent?index=$index" });

    return $r->status && $r->status == 200 ? $r->body : undef;
}


sub control {
    my ($self, $method, $path, $body) = @_;

    my ($r) = Test::LLM::HTTP->all({ port => $self->{control}, path => $path,
        method => $method, body => $body });

    if (($r->status // 0) != 200) {
        croak "mock: $method $path: " . ($r->error // $r->body);
    }

    return $r->json;
}


sub query {
    my (%query) = @_;

    return '' if !%query;
    return '?' . join '&', map { "$_=$query{$_}" } sort keys %query;
}


1;
