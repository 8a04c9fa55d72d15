package Test::LLM::Forward;

# Hands the connections of a listening socket on to a port of 127.0.0.1:
# Test::LLM::Forward->new($t, $socket, sub { port }), where the sub runs, in a
# process of its own, for each connection.

use warnings;
use strict;

use IO::Select;
use IO::Socket::INET;


sub new {
    my ($class, $t, $listen, $port) = @_;

    my $self = bless { listen => $listen, port => $port }, $class;

    $t->child('forward', sub { $self->serve });

    return $self;
}


sub serve {
    my ($self) = @_;

    my $listen = $self->{listen};
    my $select = IO::Select->new($listen);
    my %other;

    while (my @ready = $select->can_read) {
        for my $in (@ready) {
            if ($in == $listen) {
                my $client = $listen->accept or next;
                my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                    PeerPort => $self->{port}->()) or next;

                @other{$client, $server} = ($server, $client);
                $select->add($client, $server);
                next;
            }

            my $out = $other{$in} or next;
            my $n = sysread $in, my $data, 65536;

            if (!$n) {
                delete @other{$in, $out};
                $select->remove($in, $out);
                $_->close for $in, $out;
                next;
            }

            syswrite $out, $data;
        }
    }
}


1;
