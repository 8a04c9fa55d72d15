package RedisClient;

# nginx with the Redis client and a caller for it instead of the gateway (see
# t/redis).

use warnings;
use strict;

use parent -norequire, 'Test::LLM';

use Test::More ();


# a sanitized nginx is no host for it: then the module has the sanitizers

sub new {
    my ($class, %options) = @_;

    my $self = Test::LLM::new($class, %options);
    my @flags;

    if ($self->sanitized) {
        $self->{binary} = 'nginx';
        $self->{preload} = 1;
        @flags = ('-fsanitize=address,undefined', '-fno-omit-frame-pointer');
    }

    $self->{module} = $self->test_module($self->part, @flags);

    return $self;
}


# which of the test modules

sub part { 'redis' }


sub sanitized { $_[0]{preload} || Test::LLM::sanitized($_[0]) }


sub preloaded {
    my ($self, $what) = @_;

    return $what->() if !$self->{preload};

    chomp(my $asan = qx(cc -print-file-name=libasan.so));
    local $ENV{LD_PRELOAD} = $asan;

    return $what->();
}


sub nginx {
    my ($self, @arguments) = @_;
    return $self->preloaded(sub { $self->Test::LLM::nginx(@arguments) });
}


sub test_config {
    my ($self, @arguments) = @_;
    return $self->preloaded(sub { $self->Test::LLM::test_config(@arguments) });
}


# client(URL, scripts => [Lua], timeout => ms, share => 1, http => text)

sub client {
    my ($self, @options) = @_;
    $self->nginx($self->configuration(@options));
}


# whether nginx -t takes it, and what it says

sub test_client {
    my ($self, @options) = @_;
    return $self->test_config($self->configuration(@options));
}


sub configuration {
    my ($self, $url, %options) = @_;

    my $scripts = join '', map { "llm_test_redis_script \"$_\";\n" }
        @{$options{scripts} // []};
    my $timeout = $options{timeout} // ($self->sanitized ? 400 : 100);

    return <<"EOT";
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%
    @{[$options{http} // '']}
    llm_test_redis "$url" $timeout;
    $scripts
    @{[$options{share} ? 'llm_test_redis_share;' : '']}

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { llm_test_redis_run; }
    }
}
EOT
}


# the reply's text; it is kept apart from who answered and after how long

sub ask { $_[0]->start_get("/?$_[1]") }

sub answer {
    my ($self, $r) = @_;

    $r->wait;
    my ($text, $pid, $ms) = ($r->body // '') =~ /\A(.*)\npid=(\d+) ms=(\d+)\n\z/s
        or return 'no answer: ' . ($r->error // $r->status // '');

    $self->{last} = { pid => $pid, ms => $ms };

    return $text;
}

sub run       { $_[0]->answer($_[0]->ask($_[1])) }
sub ms        { $_[0]{last}{ms} }
sub pid       { $_[0]{last}{pid} }
sub connected { $_[0]->run('connected=1') eq 'connected:1' }

sub stat {
    my ($self, $name) = @_;
    return $self->run('stat=1') =~ /\b$name:(\d+)/ ? $1 : undef;
}

sub up {
    my ($self, $when, $patience) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::ok($self->until(sub { $self->connected }, $patience // 5),
        "connected $when");
}

sub said {
    my ($self, $pattern) = @_;
    return scalar(() = $self->log =~ /$pattern/g);
}


1;
