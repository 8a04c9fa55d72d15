package Test::LLM;

# The part of the harness that runs nginx: configuration, start, reload, end.

use warnings;
use strict;

use Carp;
use Time::HiRes qw(time sleep);


# What stands for %%GATEWAY%%: a gateway in front of the mock as most tests
# need it.  Options of gateway() change its parts.

my $gateway = <<'EOT';
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%

    llm_zone llm 16m %%ZONE%%;
    llm_redis %%REDIS%%;
    llm_tenants %%DIR%%/tenants.json;
    llm_provider mock uri=/llm/mock/ key=file:%%DIR%%/provider.key
                 %%PROVIDER%%;
    %%ROUTES%%
    %%HTTP%%

    upstream mock {
        server %%MOCK%% max_fails=0;
        keepalive 32;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 16m;
        client_body_buffer_size 1m;
        %%SERVER%%

        location / {
            llm_gateway;
            %%LOCATION%%
        }

        location /llm/mock/ {
            internal;
            proxy_pass http://mock/v1/;
            %%PROXY%%
        }
    }

    server {
        listen 127.0.0.1:%%PORT_ADMIN%%;

        location = /metrics { llm_metrics; }
        location = /healthz { llm_health; }
        location = /readyz { llm_health; }
        %%ADMIN%%
    }
}
EOT

my $proxy = <<'EOT';
proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization $llm_authorization;
            proxy_set_header Accept-Encoding "";
            proxy_buffering off;
            proxy_buffer_size 16k;
            proxy_busy_buffers_size 16k;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
            proxy_ignore_headers X-Accel-Redirect X-Accel-Buffering
                                 X-Accel-Limit-Rate X-Accel-Charset
                                 X-Accel-Expires;
            proxy_connect_timeout 3s;
            proxy_read_timeout 60s;
            proxy_intercept_errors off;
EOT


# A gateway with tasks: gateway() with what they need besides, llm_tasks on
# with these options.

sub tasks_gateway {
    my ($self, $options, %more) = @_;

    my $socket = $self->path('internal.sock');

    return $self->gateway(%more,
        http => "llm_internal unix:$socket; llm_tasks on $options; "
            . ($more{http} // ''),
        server => "listen unix:$socket; large_client_header_buffers 4 64k; "
            . ($more{server} // ''));
}


# The admin API: a location for gateway(admin => ...), and a request of it.

my $admin = 'sk-admin-0123456789abcdef0123';

sub admin_api {
    my ($self) = @_;

    $self->write('admin.secret', "$admin\n");

    return 'location /admin/v1/ { llm_admin file:%%DIR%%/admin.secret; }';
}


sub admin {
    my ($self, $method, $path, $body) = @_;

    my $r = $self->start_get("/admin/v1$path", method => $method,
        port => $self->port('PORT_ADMIN'), key => undef, body => $body,
        headers => { Authorization => "Bearer $admin" });
    $r->wait;

    return $r;
}


# A whole gateway: mock, Redis (redis => 0: without), a tenants file with the
# key "user" unless the test made its own.  Further options: http, server,
# location, admin, zone, routes, proxy, provider (configuration text), mock (its arguments).
# Gives the mock.

sub gateway {
    my ($self, %options) = @_;

    my $mock;

    $mock = $self->mock(@{$options{mock} // []}) if !$self->token('MOCK');

    if (!$self->token('REDIS')) {
        if ($options{redis} // 1) {
            $self->{redis} = $self->redis;

        } else {
            $self->token(REDIS => 'off');
        }
    }

    $self->key('user') if !-e $self->path('tenants.json');
    $self->write('provider.key', "sk-provider-secret\n");

    $self->token(uc $_ => $options{$_} // '')
        for qw(http server location admin zone);
    $self->token(ROUTES => $options{routes} // 'llm_route * mock;');
    $self->token(PROVIDER => $options{provider} // '');
    $self->token(PROXY => $options{proxy} // $proxy);

    $self->nginx($gateway);

    return $mock;
}


sub render {
    my ($self, $template) = @_;

    my $user = $self->{user} ? "user $self->{user};" : '';
    my $module = $self->{module} ? "load_module $self->{module};" : '';
    my $level = $self->{debug} || $ENV{TEST_LLM_DEBUG} ? 'debug' : 'info';
    my $dir = $self->{dir};

    my %tokens = (
        GLOBALS => "daemon off; $user $module
worker_processes $self->{workers};
pid $dir/nginx.pid;
error_log $dir/error.log $level;
" . ($ENV{TEST_NGINX_GLOBALS} // ''),
        GLOBALS_HTTP => "access_log $dir/access.log;
" . join("\n", map { "    ${_}_temp_path $dir/tmp/$_;" }
            qw(client_body proxy fastcgi uwsgi scgi)),
        BOTH => 'listen 127.0.0.1:%%PORT_BOTH%% reuseport;
        keepalive_requests 100000;
        add_header X-Pid $pid always;',
        PROXY => $proxy, DIR => $dir, %{$self->{tokens}},
    );

    $template .= "\nevents {\n    worker_connections 2048;\n}\n"
        if $template !~ /^\s*events\b/m;

    # a value may hold tokens itself
    for (1 .. 3) {
        $template =~ s{%%(\w+)%%}{
            my $name = $1;
            $tokens{$name} // ($name =~ /^PORT/ ? $self->port($name)
                : croak "no value for %%$name%%")
        }ge;
    }

    return $template;
}


# nginx -t: (success, what it said)

sub test_config {
    my ($self, $template) = @_;

    my $file = $self->write('test.conf', $self->render($template));
    local %ENV = (%ENV, $self->sanitizer_options);
    my $out = qx($self->{binary} -t -p $self->{dir}/ -c $file -e stderr 2>&1);

    return ($? == 0, $out);
}


# starts nginx and waits until it listens; a port that was taken meanwhile is
# exchanged for another

sub nginx {
    my ($self, $template) = @_;

    $self->{template} = $template;

    for my $try (1 .. 5) {
        $self->write('nginx.conf', $self->render($template));

        $self->{master} = $self->spawn('nginx', $self->{binary},
            '-p', "$self->{dir}/", '-c', 'nginx.conf',
            '-e', $self->path('error.log'));

        return $self->{master} if $self->wait_start;

        delete $self->{children}{delete $self->{master}};

        my $said = $self->read('nginx.out') . $self->log;
        croak "nginx does not start: $said"
            if $said !~ /Address already in use/ || $try == 5;

        unlink $self->path('error.log'), $self->path('nginx.out');
        $self->{ports} = {};
        $self->{bound} = {};
    }
}


# the same once more, after quit(), stop() or kill_all()

sub start {
    my ($self) = @_;
    return $self->nginx($self->{template});
}


sub wait_start {
    my ($self) = @_;

    delete $self->{idle};

    my $until = time + 20;

    while (time < $until) {
        my @workers = $self->workers;

        # a worker that has its name has its signal handlers and channels
        if (@workers >= $self->{workers}) {
            $self->{expected} = \@workers;
            return 1;
        }

        return 0 if waitpid($self->{master}, 1) == $self->{master};
        sleep 0.005;
    }

    croak 'nginx has no workers: ' . $self->log;
}


sub master { $_[0]{master} }


sub parent_of {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/stat" or return 0;
    my $line = <$file> // '';

    return $line =~ /^\d+ \(.*\) \S (\d+)/ ? $1 : 0;
}


# pids of the workers that take connections; "all": also those that are
# shutting down

sub workers {
    my ($self, $all) = @_;
    return $self->{master} ? workers_of($self->{master}, $all) : ();
}


sub workers_of {
    my ($master, $all) = @_;

    my @pids;

    for my $pid (map { m{/(\d+)$} } glob '/proc/[0-9]*') {
        next if parent_of($pid) != $master;

        open my $file, '<', "/proc/$pid/cmdline" or next;
        my $name = <$file> // '';

        # under valgrind nobody can change its title
        push @pids, $pid if $name =~ m{worker process|^/\S*/valgrind}
            && ($all || $name !~ /shutting down/);
    }

    return sort { $a <=> $b } @pids;
}


# reload(TEMPLATE): the workers are exchanged; old ones may live on with
# their connections.  Without new workers (a bad configuration) it dies.

sub reload {
    my ($self, $template) = @_;

    my %old = map { $_ => 1 } $self->workers(1);

    $self->write('nginx.conf', $self->render($template)) if defined $template;
    kill 'HUP', $self->{master};

    my @new;
    my $done = $self->until(sub {
        @new = grep { !$old{$_} } $self->workers;
        return @new >= $self->{workers}
            && !grep { $old{$_} } $self->workers;
    }, 20);

    croak 'no new workers: ' . $self->log if !$done;

    $self->{expected} = \@new;
    delete $self->{idle};
}


# kills a worker (by default with KILL, the first one) and waits for the new

sub kill_worker {
    my ($self, $signal, $pid) = @_;

    $pid //= ($self->workers)[0];
    $self->allow(qr/\[alert\] .*process $pid exited on signal/);
    $self->allow(qr/\[alert\] .*locked by $pid/);

    kill Test::LLM::fatal($signal // 'KILL'), $pid;

    $self->until(sub {
        my @workers = $self->workers;
        return @workers >= $self->{workers} && !grep { $_ == $pid } @workers;
    }, 20) or croak 'the worker is not replaced: ' . $self->log;

    $self->{expected} = [$self->workers];
    delete $self->{idle};

    return $pid;
}


# quit() lets connections end, stop() does not; both give the exit status or
# undef when nginx had to be killed

sub quit {
    my ($self, $patience) = @_;
    return $self->stop_child(delete $self->{master}, 'QUIT',
        $patience // 10);
}


sub stop {
    my ($self) = @_;
    return $self->stop_child(delete $self->{master}, 'TERM', 5);
}


# master and workers die at once, as by a failure of the machine

sub kill_all {
    my ($self) = @_;

    my @workers = $self->workers(1);

    $self->stop_child(delete $self->{master}, 'KILL', 5);

    $self->until(sub { !grep { command_of($_) ne '' } @workers }, 10)
        or croak 'workers outlive KILL';
}


sub command_of {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/cmdline" or return '';

    return <$file> // '';
}


1;
