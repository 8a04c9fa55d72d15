package Test::LLM::Redis;

# A Redis of the test's own on a unix socket, and a client for it.

use warnings;
use strict;

use Carp;
use IO::Socket::UNIX;
use Time::HiRes qw(time sleep);


sub new {
    my ($class, $t, %options) = @_;

    my $self = bless { t => $t, dir => $t->dir . '/redis',
        options => \%options }, $class;

    mkdir $self->{dir};

    return $self->start;
}


sub path { $_[0]{dir} . '/redis.sock' }
sub url  { 'unix:' . $_[0]->path }
sub pid  { $_[0]{pid} }


sub start {
    my ($self) = @_;

    my %options = (port => 0, unixsocket => $self->path,
        unixsocketperm => 777, dir => $self->{dir}, save => '',
        appendonly => 'no', %{$self->{options}});

    $self->{pid} = $self->{t}->spawn('redis', 'redis-server',
        map { ("--$_", $options{$_}) } sort keys %options);

    my $until = time + 10;

    until (eval { $self->command('PING') eq 'PONG' }) {
        croak 'redis does not start: ' . $self->{t}->read('redis.out')
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

    if (!$self->{socket}) {
        $self->{socket} = IO::Socket::UNIX->new(Peer => $self->path)
            or die 'redis: ' . $self->path . ": $!\n";
        binmode $self->{socket};
    }

    print { $self->{socket} } '*' . @words . "\r\n",
        map { '$' . length($_) . "\r\n$_\r\n" } @words;
    $self->{socket}->flush;

    return $self->reply;
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


1;
