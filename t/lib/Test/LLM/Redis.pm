package Test::LLM::Redis;

# A Redis of the test's own on a unix socket, and a client for it; a Sentinel;
# a server that only says what the test tells it to.

use warnings;
use strict;

use Carp;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::IP;
use IO::Socket::UNIX;
use Time::HiRes qw(time sleep);

use constant FAKE => 'Test::LLM::Redis::Fake';


# name => its folder, where there are several; the rest are options of
# redis-server

sub new {
    my ($class, $t, %options) = @_;

    my $name = delete $options{name} // 'redis';
    my $self = bless { t => $t, name => $name, dir => $t->dir . "/$name",
        options => \%options }, $class;

    mkdir $self->{dir};

    return $self->start;
}


sub path { $_[0]{dir} . '/redis.sock' }
sub url  { 'unix:' . $_[0]->path }
sub pid  { $_[0]{pid} }


sub start {
    my ($self) = @_;

    # by the one address at which a test's ports are its own

    my %options = (port => 0, bind => '127.0.0.1', unixsocket => $self->path,
        unixsocketperm => 777, dir => $self->{dir}, save => '',
        appendonly => 'no', %{$self->{options}});

    $self->{pid} = $self->{t}->spawn($self->{name}, 'redis-server',
        map { ("--$_", $options{$_}) } sort keys %options);

    my $until = time + 10;

    until (eval { $self->command('PING') } || $@ =~ /NOAUTH|LOADING/) {
        croak 'redis does not start: ' . $self->{t}->read("$self->{name}.out")
            if time > $until || !kill 0, $self->{pid};
        sleep 0.01;
    }

    return $self;
}


# stop(), stop('KILL'); pause() leaves it there but silent

sub stop {
    my ($self, $signal) = @_;

    delete $self->{socket};
    $self->{t}->stop_child(delete $self->{pid}, $signal // 'TERM');
}


sub pause  { kill 'STOP', $_[0]{pid} }
sub resume { kill 'CONT', $_[0]{pid} }


# command('SET', 'a', 1): strings, numbers, undef, array references; an error
# reply dies

sub command {
    my ($self, @words) = @_;

    local $SIG{PIPE} = 'IGNORE';

    # a server that became another one's replica closes its connections
    my $old = $self->{socket};

    $self->ask(@words);
    my $reply = eval { [$self->reply] };

    if (!$reply && $old && $@ =~ /connection closed/) {
        $self->ask(@words);
        return $self->reply;
    }

    die $@ if !$reply;

    return $reply->[0];
}


# the ids of the gateways that share limits here

sub gateways {
    my ($self) = @_;
    return @{$self->command(ZRANGE => '{llm}:g', 0, -1)};
}


# slots that are kept in it, and for whom that is no gateway

sub shares {
    my ($self) = @_;

    my %alive = map { $_ => 1 } $self->gateways;
    my ($held, %foreign) = (0);

    for my $key (@{$self->command(KEYS => '{llm}:s:*')}) {
        my %share = @{$self->command(HGETALL => $key)};

        for my $id (keys %share) {
            $foreign{$id} = 1 if !$alive{$id};
            $held += (split / /, $share{$id})[0];
        }
    }

    return ($held, join ' ', sort keys %foreign);
}


# a client more; and a command whose reply nobody reads for now

sub another {
    my ($self) = @_;
    return bless { %$self, socket => undef }, ref $self;
}


sub ask {
    my ($self, @words) = @_;

    if (!$self->{socket}) {
        $self->{socket} = IO::Socket::UNIX->new(Peer => $self->path)
            or die 'redis: ' . $self->path . ": $!\n";
        binmode $self->{socket};
    }

    print { $self->{socket} } '*' . @words . "\r\n",
        map { '$' . length($_) . "\r\n$_\r\n" } @words;
    $self->{socket}->flush;
}


sub reply {
    my ($self) = @_;

    my $line = readline $self->{socket};

    if (!defined $line) {
        delete $self->{socket};
        die "redis: connection closed\n";
    }

    $line =~ s/\r\n\z//;
    my $type = substr $line, 0, 1, '';

    return $line if $type eq '+' || $type eq ':';
    die "redis: $line\n" if $type eq '-';
    return undef if $line < 0;
    return [map { $self->reply } 1 .. $line] if $type eq '*';

    read $self->{socket}, my $bytes, $line + 2;

    return substr $bytes, 0, $line;
}


# sentinel(t, name, port, master => 'host port', option => value): a Sentinel
# of its own for one master, which it calls "mymaster"

sub sentinel {
    my ($class, $t, $name, $port, $master, %options) = @_;

    my $self = bless { t => $t, name => $name, dir => $t->dir . "/$name" },
        $class;

    mkdir $self->{dir};

    my %mine = ('down-after-milliseconds' => 500,
        'failover-timeout' => 3000, %options);
    my $head = delete $mine{head} // '';

    $t->write("$name/sentinel.conf", "port $port\nbind 127.0.0.1\n"
        . "dir $self->{dir}\nunixsocket $self->{dir}/redis.sock\n$head\n"
        . "sentinel monitor mymaster $master 1\n"
        . join '', map { "sentinel $_ mymaster $mine{$_}\n" } sort keys %mine);

    $self->{pid} = $t->spawn($name, 'redis-server', "$self->{dir}/sentinel.conf",
        '--sentinel');

    $t->until(sub { eval { $self->command('PING') } || $@ =~ /NOAUTH/ }, 10)
        or croak 'sentinel does not start: ' . $t->read("$name.out");

    return $self;
}


# fake(t, sub, port => N): a server in a process of its own.  For each command
# it calls sub(\%it, number of the connection, words), which gives the raw
# reply, undef for none, or 'CLOSE'; $it->{mode} is what mode() has set.  What
# clients said is in journal().

sub fake {
    my ($class, $t, $answer, %options) = @_;

    my $listen = IO::Socket::IP->new(
        LocalAddr => $options{bind} // '127.0.0.1', Listen => 64,
        LocalPort => $options{port} // 0, ReuseAddr => 1)
        or croak "fake redis: $!";
    my $name = 'fake' . $listen->sockport;
    my $self = bless { t => $t, name => $name, port => $listen->sockport },
        FAKE;

    $self->mode($options{mode} // '');

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        $SIG{PIPE} = 'IGNORE';
        eval { $self->serve($listen, $answer) };
        print STDERR "# fake redis: $@" if $@;
        require POSIX;
        POSIX::_exit(0);
    }

    close $listen;
    $self->{pid} = $pid;
    $t->{children}{$pid} = $name;

    return $self;
}


package Test::LLM::Redis::Fake;


sub port { $_[0]{port} }
sub mode { $_[0]{t}->write("$_[0]{name}.mode", $_[1]) }
sub stop { $_[0]{t}->stop_child(delete $_[0]{pid}, 'KILL') }

sub pause  { kill 'STOP', $_[0]{pid} }
sub resume { kill 'CONT', $_[0]{pid} }

# the lines "connection: command and arguments"
sub journal { split /\n/, $_[0]{t}->read("$_[0]{name}.journal") }


sub serve {
    my ($self, $listen, $answer) = @_;

    my $select = IO::Select->new($listen);
    my ($n, %client) = (0);

    open my $journal, '>>', $self->{t}->path("$self->{name}.journal") or die;
    $journal->autoflush(1);

    while (1) {
        for my $socket ($select->can_read) {
            if ($socket == $listen) {
                my $new = $listen->accept or next;
                $select->add($new);
                $client{$new} = { n => ++$n, in => '' };
                next;
            }

            my $it = $client{$socket};

            if (!sysread $socket, $it->{in}, 65536, length $it->{in}) {
                $select->remove($socket);
                close $socket;
                next;
            }

            while (my @words = words(\$it->{in})) {
                print $journal "$it->{n}: @words\n";
                $it->{mode} = $self->{t}->read("$self->{name}.mode");

                my $reply = $answer->($it, $it->{n}, @words) // next;

                if ($reply eq 'CLOSE') {
                    $select->remove($socket);
                    close $socket;
                    last;
                }

                syswrite $socket, $reply;
            }
        }
    }
}


# one command off the front, when it is whole

sub words {
    my ($in) = @_;

    $$in =~ /\G\*(\d+)\r\n/gc or return;

    my ($count, @words) = ($1);

    while (@words < $count) {
        $$in =~ /\G\$(\d+)\r\n/gc or pos($$in) = undef, return;
        my $length = $1;
        pos($$in) = undef, return if length($$in) < pos($$in) + $length + 2;
        push @words, substr $$in, pos $$in, $length;
        pos($$in) += $length + 2;
    }

    substr($$in, 0, pos $$in) = '';

    return @words;
}


1;
