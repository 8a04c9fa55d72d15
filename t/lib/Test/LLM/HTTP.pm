package Test::LLM::HTTP;

# An HTTP/1.1 client for tests: many requests at a time in one select() loop,
# everything with its time, nothing hidden.  The object is the request, its
# connection and what has come of the answer so far:
#
#   status reason head         the answer's head as it came
#   body                       decoded bytes so far
#   chunks                     [[seconds, bytes], ...] as they were read
#   events                     [{time, event, data}, ...] of an SSE stream
#   connected sent first end   seconds since start: connection, request
#                              written, first byte of the head, end
#   complete                   true: the framing ended as it should
#   error                      undef, "timeout", "closed", "refused", ...

use warnings;
use strict;

use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use JSON::PP;
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY SO_LINGER SO_RCVBUF);
use Time::HiRes qw(time);


my %live;


# method path headers (pairs or hash) body (a reference: as JSON) host port
# unix raw (instead of all that) timeout rcvbuf paused on_event

sub start {
    my ($class, %spec) = @_;

    my $self = bless { spec => \%spec }, $class;

    $self->reset_answer;

    my ($family, $address);

    if ($spec{unix}) {
        ($family, $address) = (AF_UNIX, pack_sockaddr_un($spec{unix}));

    } else {
        ($family, $address) = (AF_INET, pack_sockaddr_in($spec{port},
            inet_aton($spec{host} // '127.0.0.1')));
    }

    socket($self->{socket}, $family, SOCK_STREAM, 0) or die "socket: $!\n";

    my $flags = fcntl($self->{socket}, F_GETFL, 0);
    fcntl($self->{socket}, F_SETFL, $flags | O_NONBLOCK);

    if ($spec{rcvbuf}) {
        setsockopt($self->{socket}, SOL_SOCKET, SO_RCVBUF, $spec{rcvbuf});
    }

    setsockopt($self->{socket}, IPPROTO_TCP, TCP_NODELAY, 1)
        if $family == AF_INET;

    if (!connect($self->{socket}, $address) && $! != EINPROGRESS) {
        $self->finish("connect: $!");
        return $self;
    }

    $live{fileno $self->{socket}} = $self;

    return $self;
}


# another request on a connection that is idle

sub again {
    my ($self, %spec) = @_;

    my $next = bless { spec => { %{$self->{spec}}, body => undef,
        raw => undef, %spec }, socket => $self->{socket} }, ref $self;

    $next->reset_answer;
    $next->{connected} = 0;

    if (!$self->{socket}) {
        $next->finish('not connected');
        return $next;
    }

    delete $self->{socket};
    $live{fileno $next->{socket}} = $next;

    return $next;
}


sub reset_answer {
    my ($self) = @_;

    $self->{out} = defined $self->{spec}{raw} ? $self->{spec}{raw}
        : request_bytes(%{$self->{spec}});
    $self->{deadline} = time + ($self->{spec}{timeout} // 10);
    $self->{paused} = $self->{spec}{paused};
    $self->{start} = time;
    $self->{in} = $self->{body} = $self->{head} = $self->{sse} = '';
    $self->{chunks} = [];
    $self->{events} = [];
    $self->{headers} = [];
    $self->{state} = 'head';
}


sub request_bytes {
    my (%spec) = @_;

    my $body = $spec{body};
    $body = JSON::PP->new->utf8->canonical->encode($body) if ref $body;

    my $headers = $spec{headers} // [];
    my @pairs = ref $headers eq 'HASH'
        ? map { ($_ => $headers->{$_}) } sort keys %$headers : @$headers;

    my $method = $spec{method} // (defined $body ? 'POST' : 'GET');
    my $bytes = "$method " . ($spec{path} // '/') . " HTTP/1.1\r\n";
    my %seen;

    while (my ($name, $value) = splice @pairs, 0, 2) {
        $seen{lc $name} = 1;
        $bytes .= "$name: $value\r\n" if defined $value;
    }

    $bytes .= "Host: localhost\r\n" if !$seen{host};

    if (defined $body) {
        $bytes .= "Content-Type: application/json\r\n"
            if !$seen{'content-type'};
        $bytes .= 'Content-Length: ' . length($body) . "\r\n"
            if !$seen{'content-length'} && !$seen{'transfer-encoding'};
    }

    return $bytes . "\r\n" . ($body // '');
}


# starts all, waits for all

sub all {
    my ($class, @specs) = @_;

    my @requests = map { $class->start(%$_) } @specs;

    $_->wait for @requests;

    return @requests;
}


sub pump {
    my ($most) = @_;

    my ($read, $write) = ('', '');
    my $now = time;

    for my $fd (keys %live) {
        my $self = $live{$fd};

        if ($now >= $self->{deadline}) {
            $self->finish('timeout');
            $most = 0;
            next;
        }

        my $left = $self->{deadline} - $now;
        $most = $left if $left < $most;

        vec($read, $fd, 1) = 1 if !$self->{paused} && $self->{connected};
        vec($write, $fd, 1) = 1 if length $self->{out} || !$self->{connected};
    }

    my $n = select($read, $write, undef, $most < 0 ? 0 : $most);

    return if $n <= 0;

    for my $fd (keys %live) {
        my $self = $live{$fd} or next;

        $self->writable if vec($write, $fd, 1);
        $self->readable if $live{$fd} && vec($read, $fd, 1);
    }
}


sub writable {
    my ($self) = @_;

    if (!$self->{connected}) {
        my $error = unpack 'i', getsockopt($self->{socket}, SOL_SOCKET,
            SO_ERROR);

        if ($error) {
            local $! = $error;
            return $self->finish("connect: $!");
        }

        $self->{connected} = time - $self->{start};
    }

    return if !length $self->{out};

    local $SIG{PIPE} = 'IGNORE';
    my $n = syswrite $self->{socket}, $self->{out};

    if (!defined $n) {
        return if $! == EAGAIN || $! == EINTR;

        # the answer may be there although the server reads no more
        $self->{out} = '';
        $self->{write_error} = "$!";
        return;
    }

    substr($self->{out}, 0, $n) = '';
    $self->{sent} = time - $self->{start} if !length $self->{out};
}


sub readable {
    my ($self) = @_;

    my $n = sysread $self->{socket}, my $bytes, 65536;

    if (!defined $n) {
        return if $! == EAGAIN || $! == EINTR;
        return $self->finish("read: $!");
    }

    if ($n == 0) {
        $self->{server_closed} = 1;

        if ($self->{state} eq 'body' && $self->{framing} eq 'close') {
            $self->{complete} = 1;
            return $self->finish;
        }

        return $self->finish('closed');
    }

    $self->{first} //= time - $self->{start};
    $self->{in} .= $bytes;

    $self->parse_head while $self->{state} eq 'head'
        && $self->{in} =~ /\r\n\r\n/;
    $self->parse_body if $self->{state} eq 'body';
}


sub parse_head {
    my ($self) = @_;

    $self->{in} =~ s/\A(.*?\r\n)\r\n//s;
    $self->{head} = $1;

    my ($line, @lines) = split /\r\n/, $self->{head};

    if ($line !~ m{^HTTP/1\.([01]) (\d{3}) ?(.*)}) {
        return $self->finish("bad status line: $line");
    }

    return if $2 < 200;                           # an interim answer

    ($self->{status}, $self->{reason}) = ($2, $3);
    $self->{headers} = [map { /^([^:]+):\s*(.*?)\s*$/ ? [lc $1, $2] : () }
        @lines];
    $self->{headed} = time - $self->{start};
    $self->{state} = 'body';

    my $length = $self->header('content-length');

    if (($self->{spec}{method} // '') eq 'HEAD'
        || $self->{status} == 204 || $self->{status} == 304)
    {
        ($self->{framing}, $self->{left}) = ('length', 0);

    } elsif (lc($self->header('transfer-encoding') // '') eq 'chunked') {
        $self->{framing} = 'chunked';

    } elsif (defined $length) {
        ($self->{framing}, $self->{left}) = ('length', $length);

    } else {
        $self->{framing} = 'close';
    }
}


sub parse_body {
    my ($self) = @_;

    if ($self->{framing} eq 'close') {
        $self->take(length $self->{in});

    } elsif ($self->{framing} eq 'length') {
        $self->take($self->{left});
        return $self->whole if $self->{left} == 0;

    } else {
        while (1) {
            if (!$self->{left}) {
                return if $self->{in} !~ s/\A(?:\r\n)?([0-9a-fA-F]+)[^\n]*\n//;
                $self->{left} = hex $1;
                $self->{last} = 1 if !$self->{left};
            }

            if ($self->{last}) {
                # trailers, then an empty line
                return if $self->{in} !~ s/\A(?:[^\r\n]+\r\n)*\r\n//;
                return $self->whole;
            }

            $self->take($self->{left});
            return if $self->{left};

            # the line end after the data must not be taken for a trailer
            return if $self->{in} eq '' || $self->{in} eq "\r";
            $self->{in} =~ s/\A\r\n//;
        }
    }
}


sub take {
    my ($self, $most) = @_;

    my $bytes = substr $self->{in}, 0, $most, '';
    return if !length $bytes;

    $self->{left} -= length $bytes if defined $self->{left};
    $self->{body} .= $bytes;
    push @{$self->{chunks}}, [time - $self->{start}, $bytes];

    if (($self->header('content-type') // '') =~ m{^text/event-stream}) {
        $self->parse_events($bytes);
    }
}


sub parse_events {
    my ($self, $bytes) = @_;

    $self->{sse} .= $bytes;
    $self->{sse} =~ s/\r\n/\n/g;

    while ($self->{sse} =~ s/\A(.*?)\n\n//s) {
        my %event = (time => time - $self->{start}, raw => $1);

        for (split /\n/, $1) {
            if (/^data: ?(.*)/) {
                $event{data} = defined $event{data} ? "$event{data}\n$1" : $1;

            } elsif (/^event: ?(.*)/) {
                $event{event} = $1;
            }
        }

        next if !defined $event{data};

        push @{$self->{events}}, \%event;
        $self->{spec}{on_event}->($self, \%event) if $self->{spec}{on_event};
    }
}


sub whole {
    my ($self) = @_;

    $self->{complete} = 1;
    $self->finish;
}


sub finish {
    my ($self, $error) = @_;

    return if $self->{state} eq 'done';

    $self->{state} = 'done';
    $self->{error} = $error;
    $self->{end} = time - $self->{start};

    if ($self->{socket}) {
        delete $live{fileno $self->{socket}};

        # kept for again() only when a next answer could come
        if ($error || $self->{server_closed} || $self->{framing} eq 'close'
            || lc($self->header('connection') // '') eq 'close')
        {
            CORE::close(delete $self->{socket});
        }
    }
}


# waits until the condition holds (by default: the answer has ended); false
# when the time or the request was over before

sub wait {
    my ($self, $condition, $timeout) = @_;

    my $until = time + ($timeout // 60);

    while (1) {
        return 1 if $condition && $condition->($self);
        return !$condition if $self->{state} eq 'done';

        my $left = $until - time;
        return 0 if $left <= 0;

        pump($left);
    }
}


sub wait_events {
    my ($self, $n, $timeout) = @_;
    return $self->wait(sub { @{$self->{events}} >= $n }, $timeout);
}


sub wait_head {
    my ($self, $timeout) = @_;
    return $self->wait(sub { $self->{headed} }, $timeout);
}


# the client leaves: properly, or with a reset

sub close {
    my ($self) = @_;

    $self->finish('left');
    CORE::close(delete $self->{socket}) if $self->{socket};
}


sub abort {
    my ($self) = @_;

    setsockopt($self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0))
        if $self->{socket};
    $self->close;
}


sub pause  { $_[0]{paused} = 1 }
sub resume { $_[0]{paused} = 0 }


# lets all connections run for a while, whatever comes

sub idle {
    my ($class, $seconds) = @_;

    my $until = time + $seconds;

    while ((my $left = $until - time) > 0) {
        pump($left);
    }
}


sub close_all { $_->abort for values %live }


sub header {
    my ($self, $name) = @_;

    my @values = map { $_->[1] } grep { $_->[0] eq lc $name }
        @{$self->{headers}};

    return @values ? join(', ', @values) : undef;
}


sub json {
    my ($self) = @_;
    return eval { JSON::PP->new->utf8->decode($self->{body}) };
}


# the "data" of all events

sub data {
    my ($self) = @_;
    return map { $_->{data} } @{$self->{events}};
}


# the text of a chat stream

sub text {
    my ($self) = @_;

    return join '', map {
        my $event = eval { JSON::PP->new->utf8->decode($_) };
        map { $_->{delta}{content} // $_->{text} // '' }
            ref $event ? @{$event->{choices} // []} : ();
    } $self->data;
}


for my $name (qw(status reason head headers body chunks events connected sent
                 headed first end complete error server_closed))
{
    no strict 'refs';
    *$name = sub { $_[0]{$name} };
}


# after a fork the connections are the parent's
sub DESTROY {
    my ($self) = @_;
    delete $live{fileno $self->{socket}}
        if $self->{socket} && defined fileno $self->{socket};
}


1;
