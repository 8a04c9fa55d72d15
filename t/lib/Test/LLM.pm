package Test::LLM;

# The test harness: every .t has its own folder, ports, nginx, Redis and mock
# provider.  t/lib/README.md tells how to write a test.

use warnings;
use strict;

use parent 'Exporter';

use Carp;
use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP;
use POSIX qw(:sys_wait_h);
use Test::More ();
use Time::HiRes qw(time sleep);

use Test::LLM::Cert;
use Test::LLM::Config;
use Test::LLM::HTTP;
use Test::LLM::Metrics;
use Test::LLM::Mock;
use Test::LLM::Redis;


my @instances;
my $process = $$;

our @EXPORT = ((grep { $_ ne 'done_testing' } @Test::More::EXPORT),
    'done_testing');

for my $name (@EXPORT) {
    no strict 'refs';
    no warnings 'once';
    next if $name eq 'done_testing';
    $name =~ /^([\$\@%])(\w+)/ ? (*$2 = \${"Test::More::$2"})
        : (*$name = \&{"Test::More::$name"});
}

for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { exit 1 };           # so that END runs
}


# instead of Test::More's: stops everything, then looks at what it left

sub done_testing {
    Test::LLM::HTTP::close_all();
    $_->finish for @instances;
    Test::More::done_testing();
}


END {
    my $status = $?;

    if ($$ == $process) {
        for my $t (@instances) {
            $t->stop_all;
            $t->show_logs if $status || !Test::More->builder->is_passing;
            $t->remove;
        }
    }

    $? = $status;
}


# workers => N, module => 0: without it, debug => 1: the debug log

sub new {
    my ($class, %options) = @_;

    my $top = abs_path(dirname(__FILE__) . '/../../..');
    my $build = $ENV{TEST_BUILD} || "$top/build";

    my $self = bless {
        dir => tempdir('ngx-llm-XXXXXXXX', TMPDIR => 1), top => $top,
        build => $build, binary => $ENV{TEST_NGINX_BINARY} || 'nginx',
        module => $ENV{TEST_NGINX_MODULE}
            // "$build/ngx_http_llm_module.so",
        workers => 1, children => {}, ports => {}, tokens => {}, allow => [],
        tenants => { teams => {}, keys => {} }, %options,
    }, $class;

    $self->{module} = '' if !$self->{module};

    # the workers are nobody in particular when the master is root
    if ($> == 0) {
        $self->{user} = getpwnam('www-data') ? 'www-data' : 'nobody';
    }

    chmod 0755, $self->{dir};
    for my $folder (qw(sanitizer tmp state)) {
        mkdir $self->path($folder);
        chmod 0777, $self->path($folder);
    }

    push @instances, $self;

    return $self;
}


sub dir    { $_[0]{dir} }
sub path   { "$_[0]{dir}/$_[1]" }
sub binary { $_[0]{binary} }


# a reference is written as JSON; the file appears at once, never half

sub write {
    my ($self, $name, $content) = @_;

    my $file = $self->path($name);
    $content = JSON::PP->new->utf8->canonical->pretty->encode($content)
        if ref $content;

    open my $out, '>', "$file.new" or croak "$file: $!";
    binmode $out;
    print $out $content;
    close $out or croak "$file: $!";
    rename "$file.new", $file or croak "$file: $!";

    return $file;
}


sub read {
    my ($self, $name) = @_;

    open my $in, '<', $self->path($name) or return '';
    local $/;

    return <$in> // '';
}


# A free port by name.  It stays bound until somebody else is to bind it.

sub port {
    my ($self, $name) = @_;

    $name //= 'PORT';

    # Bound for as long as we live, the port is given to nobody who wants any;
    # as nobody listens by it, a server that reuses addresses can have it.

    if (!$self->{ports}{$name}) {
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            Proto => 'tcp', ReuseAddr => 1) or croak "no free port: $!";

        $self->{ports}{$name} = $socket->sockport;
        $self->{bound}{$name} = $socket;
    }

    return $self->{ports}{$name};
}


# token(NAME => value): %%NAME%% in the configuration

sub token {
    my ($self, $name, $value) = @_;

    $self->{tokens}{$name} = $value if @_ > 2;

    return $self->{tokens}{$name};
}


# Other processes.  Output goes to NAME.out.

sub spawn {
    my ($self, $name, @command) = @_;

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $self->path("$name.out");
        open STDERR, '>&', \*STDOUT;

        %ENV = (%ENV, $self->sanitizer_options);

        no warnings 'exec';
        exec { $command[0] } @command or print "$command[0]: $!\n";
        POSIX::_exit(127);
    }

    $self->{children}{$pid} = $name;

    return $pid;
}


# test_module(name, flags): the file of t/NAME, a module for nginx, built once

my %built;

sub test_module {
    my ($self, $name, @flags) = @_;

    my $folder = "$self->{build}/test-$name" . (@flags ? '-san' : '');

    local $ENV{BUILD} = $self->{build};

    $built{$folder} //= system("$self->{top}/util/build-test-module.sh",
        $name, $folder, @flags) == 0 || croak "t/$name cannot be built";

    return "$folder/ngx_http_llm_test_$name.so";
}


# child(name, sub): the sub in a process of its own, until it returns

sub child {
    my ($self, $name, $run) = @_;

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        $SIG{PIPE} = 'IGNORE';

        eval { $run->(); 1 } or print STDERR "$name: $@";
        POSIX::_exit(0);
    }

    $self->{children}{$pid} = $name;

    return $pid;
}



# the exit status, undef when it had to be killed

sub stop_child {
    my ($self, $pid, $signal, $patience) = @_;

    my $name = $pid ? delete $self->{children}{$pid} : undef;
    return undef if !defined $name;

    # a master that is killed leaves its workers
    my @workers = $name eq 'nginx' ? workers_of($pid, 1) : ();

    kill 'CONT', $pid;
    kill $name eq 'nginx' ? fatal($signal // 'TERM') : $signal // 'TERM', $pid;

    my $status = $self->await($pid, $patience // 10);

    if (!defined $status) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }

    kill fatal('KILL'), @workers if $status // 1;

    return $status;
}


# another signal that kills, where killing would lose what was counted

sub fatal {
    my ($signal) = @_;
    return $signal eq 'KILL' && $ENV{TEST_LLM_KILL} || $signal;
}


sub await {
    my ($self, $pid, $patience) = @_;

    my $until = time + $patience;

    while (time < $until) {
        my $got = waitpid $pid, WNOHANG;

        return $? if $got == $pid;
        return -1 if $got < 0;                # waited for already
        sleep 0.005;
    }

    return undef;
}


sub mock {
    my ($self, @options) = @_;

    my $name = 'mock' . ++$self->{mocks};
    my $pid = $self->spawn($name, "$self->{build}/mock", @options);
    my $until = time + 10;

    while (time < $until) {
        my ($control, $port) = $self->read("$name.out")
            =~ /control on \S+:(\d+)\n.*listening on \S+:(\d+)\n/;

        if ($port) {
            $self->token($name eq 'mock1' ? 'MOCK' : uc $name,
                "127.0.0.1:$port");
            return Test::LLM::Mock->new(pid => $pid, port => $port,
                control => $control);
        }

        last if waitpid($pid, WNOHANG) == $pid;
        sleep 0.005;
    }

    croak "$self->{build}/mock does not start: " . $self->read("$name.out");
}


sub redis {
    my ($self, %options) = @_;

    my $redis = Test::LLM::Redis->new($self, %options);
    $self->token(REDIS => $redis->url);

    return $redis;
}


# Tenants: key(NAME, limits) and team(NAME, limits) change the file and give
# the secret of the key.

sub key {
    my ($self, $name, %members) = @_;

    my $secret = 'sk-llm-' . substr sha256_hex("$name secret"), 0, 40;

    $self->{tenants}{keys}{$name} = { team => 'team',
        sha256 => sha256_hex($secret), %members };
    $self->{tenants}{teams}{$self->{tenants}{keys}{$name}{team}} //= {};
    $self->write('tenants.json', $self->{tenants});

    return $secret;
}


sub team {
    my ($self, $name, %members) = @_;

    $self->{tenants}{teams}{$name} = { %members };
    $self->write('tenants.json', $self->{tenants});
}


sub secret {
    my ($self, $name) = @_;
    return 'sk-llm-' . substr sha256_hex("$name secret"), 0, 40;
}


# Requests: get('/x', headers => {...}), post('/x', {...}, key => 'name')

sub spec {
    my ($self, $method, $path, %spec) = @_;

    my $headers = $spec{headers} // [];
    my @pairs = ref $headers eq 'HASH' ? %$headers : @$headers;
    my $key = delete $spec{key};

    push @pairs, 'Authorization', 'Bearer ' . $self->secret($key) if $key;

    return { method => $method, path => $path, port => $self->port, %spec,
        headers => \@pairs };
}


sub start_get {
    my ($self, $path, %spec) = @_;
    return Test::LLM::HTTP->start(%{$self->spec(GET => $path, %spec)});
}


sub start_post {
    my ($self, $path, $body, %spec) = @_;
    return Test::LLM::HTTP->start(%{$self->spec(POST => $path, %spec,
        body => $body)});
}


sub get {
    my $r = start_get(@_);
    $r->wait;
    return $r;
}


sub post {
    my $r = start_post(@_);
    $r->wait;
    return $r;
}


# a chat request: chat('text', key => 'name', stream => 1, body => {more})

sub start_chat {
    my ($self, $text, %spec) = @_;
    return Test::LLM::HTTP->start(%{$self->chat_spec($text, %spec)});
}


sub chat_spec {
    my ($self, $text, %spec) = @_;

    my %body = (model => delete $spec{model} // 'gpt-4o',
        messages => [{ role => 'user', content => "$text" }],
        %{delete $spec{body} // {}});
    $body{stream} = JSON::PP::true if delete $spec{stream};

    return $self->spec(POST => '/v1/chat/completions', key => 'user', %spec,
        body => \%body);
}


sub chat {
    my $r = start_chat(@_);
    $r->wait;
    return $r;
}


# start_chat() on a given worker: on(pid, 'text', ...).  Where a connection
# lands is the kernel's choice, so both workers are offered connections until
# that one has enough; the configuration has %%BOTH%% in its server block.

sub on {
    my ($self, $pid, $text, %spec) = @_;

    my $idle = $self->{idle} //= {};
    my $until = time + 20;

    until (@{$idle->{$pid} // []}) {
        my $c = $self->get('/healthz', port => $self->port('PORT_BOTH'));
        my $worker = $c->header('x-pid');

        push @{$idle->{$worker}}, $c if $worker;
        croak "no connection to worker $pid" if time > $until;
    }

    return pop(@{$idle->{$pid}})->again(%{$self->chat_spec($text, %spec)});
}


sub log        { $_[0]->read('error.log') }
sub access_log { $_[0]->read('access.log') }


sub wait_log {
    my ($self, $pattern, $timeout) = @_;
    return $self->until(sub { $self->log =~ $pattern }, $timeout);
}


# how often the error log says it

sub said {
    my ($self, $pattern) = @_;
    return scalar(() = $self->log =~ /$pattern/g);
}


# until(sub { condition }, seconds): whether it came true; connections run on

sub until {
    my ($self, $condition, $timeout) = @_;

    my $until = time + ($timeout // 5);

    until ($condition->()) {
        return 0 if time > $until;
        Test::LLM::HTTP->idle(0.005);
    }

    return 1;
}


# lines of the error log that are allowed although they are alerts

sub allow {
    my ($self, @patterns) = @_;
    push @{$self->{allow}}, @patterns;
}


sub alerts {
    my ($self) = @_;

    my @lines = grep { /\[(?:alert|crit|emerg)\]/ } split /^/, $self->log;

    for my $pattern (@{$self->{allow}}) {
        @lines = grep { $_ !~ $pattern } @lines;
    }

    return join '', @lines;
}


# nginx keeps its memory at the end, so leaks are not looked for

sub sanitizer_options {
    my ($self) = @_;

    return (
        ASAN_OPTIONS => 'detect_leaks=0:log_path='
            . $self->path('sanitizer/report'),
        UBSAN_OPTIONS => 'print_stacktrace=1:suppressions='
            . "$self->{top}/t/lib/ubsan.supp",
    );
}


sub sanitizer_reports {
    my ($self) = @_;

    my @files = map { substr $_, length($self->{dir}) + 1 }
        glob("$self->{dir}/sanitizer/*"), glob("$self->{dir}/*.out");

    return join '', grep { /Sanitizer|runtime error/ }
        map { split /^/, $self->read($_) } 'error.log', @files;
}


# whether nginx is built with the sanitizers, or something else makes it slow
# (TEST_LLM_SLOW): time and memory are no measure

sub sanitized {
    my ($self) = @_;
    return $ENV{TEST_LLM_SLOW} || $self->{binary} =~ m{/asan/} ? 1 : 0;
}


sub finish {
    my ($self) = @_;

    return if $self->{finished}++;

    if ($self->{master}) {
        my @now = $self->workers;

        Test::More::is("@now", "@{$self->{expected}}",
            'the workers are those of the start');
        Test::More::is($self->quit, 0, 'nginx ends when told so');
    }

    $self->stop_all;

    if (-e $self->path('error.log')) {
        Test::More::is($self->alerts, '', 'no alerts in the error log');
        Test::More::is($self->sanitizer_reports, '', 'no sanitizer reports');
    }
}


sub stop_all {
    my ($self) = @_;

    my $master = $self->{master};

    $self->stop_child($_, 'TERM', 3)
        for sort { ($b == ($master // 0)) <=> ($a == ($master // 0)) }
            keys %{$self->{children}};
}


sub show_logs {
    my ($self) = @_;

    for my $name ('error.log', map { "$_.out" } qw(nginx mock1 redis)) {
        my @lines = split /^/, $self->read($name) or next;

        # the last of it, and what was bad before
        if (!$ENV{TEST_LLM_VERBOSE} && @lines > 40) {
            my @last = splice @lines, -40;
            my @bad = grep { /\[(?:warn|error|crit|alert|emerg)\]/ } @lines;
            splice @bad, 0, -40 if @bad > 40;
            @lines = (@bad, @last);
        }
        Test::More::diag("--- $name\n", @lines);
    }
}


sub remove {
    my ($self) = @_;

    if ($ENV{TEST_LLM_LEAVE}) {
        Test::More::diag("left: $self->{dir}");
        return;
    }

    remove_tree($self->{dir});
}


1;
