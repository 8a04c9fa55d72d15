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

    my $r = Test::LLM::HTTP->start(port => $self->{port},
        path => '/__mock/wait' . query(%query),
        timeout => 5 + ($query{timeout_ms} // 5000) / 1000);

    $r->wait;

    return $r->status && $r->status == 200 ? $r->json : undef;
}


# the body bytes of answer I (rule member "keep")

sub sent {
    my ($self, $index) = @_;

    my ($r) = Test::LLM::HTTP->all({ port => $self->{port},
        path => "/__mock/sent?index=$index" });

    return $r->status && $r->status == 200 ? $r->body : undef;
}


sub control {
    my ($self, $method, $path, $body) = @_;

    my ($r) = Test::LLM::HTTP->all({ port => $self->{port}, path => $path,
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
