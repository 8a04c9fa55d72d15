package Test::LLM::DNS;

# A name server that says what it is told to, by name:
# { A => [addresses], AAAA => [addresses], mode => ... }.  Modes: "turn", the
# addresses in turning order; "nxdomain", "servfail"; "silent", no answer.  A
# name that it was not told of has no addresses.

use warnings;
use strict;

use IO::Socket::INET;
use JSON::PP;
use Socket qw(AF_INET6 inet_aton inet_pton);


sub new {
    my ($class, $t) = @_;

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        Proto => 'udp') or die "dns: $!";
    my $self = bless { t => $t, port => $socket->sockport }, $class;

    $self->say;
    $t->child('dns', sub { $self->serve($socket) });

    return $self;
}


sub port { $_[0]{port} }


# say(name => { ... }, ...): what holds from now on

sub say {
    my ($self, %of) = @_;
    $self->{t}->write('dns.say', \%of);
}


# how often it was asked for addresses of IPv4

sub asked {
    my ($self) = @_;

    return 0 if !-e $self->{t}->path('dns.asked');
    my @lines = $self->{t}->read('dns.asked') =~ /^1 /mg;

    return scalar @lines;
}


sub serve {
    my ($self, $socket) = @_;

    my $turn = 0;

    open my $asked, '>>', $self->{t}->path('dns.asked') or die $!;
    $asked->autoflush(1);

    while (defined $socket->recv(my $question, 512)) {
        my $from = $socket->peername;
        my ($name) = substr($question, 12) =~ /^(.*?\0)/s;
        my $type = unpack 'n', substr $question, 12 + length $name, 2;
        my $text = join '.', unpack '(C/a)*', $name =~ s/\0$//r;
        my $say = decode_json($self->{t}->read('dns.say'))->{$text} // {};
        my $mode = $say->{mode} // 'ok';
        my $code = { nxdomain => 3, servfail => 2 }->{$mode} // 0;
        my @data = $mode !~ /^(ok|turn)$/ ? ()
            : $type == 1 ? map { inet_aton($_) } @{$say->{A} // []}
            : $type == 28 ? map { inet_pton(AF_INET6, $_) }
                @{$say->{AAAA} // []}
            : ();

        @data = reverse @data if $mode eq 'turn' && $turn++ % 2;
        print $asked "$type $text $mode\n";
        next if $mode eq 'silent';

        $socket->send(pack('a2 n5', $question, 0x8180 | $code, 1,
            scalar @data, 0, 0) . $name . pack('n n', $type, 1)
            . join('', map { pack 'n n n N n/a', 0xc00c, $type, 1, 1, $_ }
                @data), 0, $from);
    }
}


1;
