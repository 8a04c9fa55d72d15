package Background;

# The gateway with a location beside it that sends requests to the internal
# listener, as tasks do (see ngx_http_llm_test_background.c).

use warnings;
use strict;

use parent -norequire, 'Test::LLM';


sub new {
    my ($class, %options) = @_;

    my $self = Test::LLM::new($class, %options);
    my $so = $self->test_module('background');

    # behind the module itself, whose client it uses

    $self->{module} = $self->{module} ? "$self->{module}; load_module $so"
        : $so;

    return $self;
}


# for gateway(): the listener, and the location

sub with {
    my ($self, %more) = @_;

    my $socket = $self->path('internal.sock');

    return (%more,
        http => "llm_internal unix:$socket; " . ($more{http} // ''),
        server => "listen unix:$socket; "
            . 'location = /behind { llm_test_background; } '
            . ($more{server} // ''));
}


# start_behind($text, key => ..., arguments => 'plain=1', body => {...})

sub start_behind {
    my ($self, $text, %spec) = @_;

    my $key = delete $spec{key} // 'user';
    my $arguments = delete $spec{arguments};
    my $path = "/behind?key=$key" . ($arguments ? "&$arguments" : '');

    my %body = (model => delete $spec{model} // 'gpt-4o',
        messages => [{ role => 'user', content => $text }],
        %{delete $spec{body} // {}});

    return $self->start_post($path, \%body, %spec);
}


sub behind {
    my $r = start_behind(@_);
    $r->wait;
    return $r;
}


1;
