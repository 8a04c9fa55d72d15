package Test::LLM::Proxy;

# The fault proxy (tests/tools) in front of a Redis, on a unix socket.

use warnings;
use strict;

use IO::Socket::INET;


sub new {
    my ($class, $t, $redis) = @_;

    my $path = $t->path('proxy.sock');

    $t->spawn('proxy', "$t->{build}/faultproxy", '--listen', "unix:$path",
        '--to', 'unix:' . $redis->path);
    $t->until(sub { $t->read('proxy.out') =~ /control \S+:(\d+)/ })
        or die $t->read('proxy.out');
    my ($port) = $t->read('proxy.out') =~ /control \S+:(\d+)/;

    my $control = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port")
        // die "control: $!";

    return bless { url => "unix:$path", control => $control }, $class;
}


sub url { $_[0]{url} }


# fault('latency 20'), fault('pass'): in force when it returns

sub fault {
    my ($self, $command) = @_;

    my $control = $self->{control};

    print $control "$command\n";
    $control->flush;
    my $answer = <$control>;
    die "$command: $answer" if $answer !~ /^ok/;
}


1;
