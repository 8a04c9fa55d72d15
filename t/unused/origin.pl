#!/usr/bin/perl

# origin.pl PORT: an HTTP server that answers with the request as it came, in
# the shape that the path asks for.  How a body was cut into chunks is left
# out: that is a matter of time.  For t/02-unused.t.

use warnings;
use strict;

use IO::Socket::INET;


my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
    LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "listen: $!\n";

$SIG{CHLD} = 'IGNORE';
$| = 1;
print "listening\n";

while (my $client = $listen->accept) {
    defined(my $pid = fork) or die "fork: $!\n";
    next if $pid;

    close $listen;
    serve($client) while !$client->eof;
    exit;
}


# heads end with an empty line, bodies as they say

sub serve {
    my ($client) = @_;

    my $head = '';
    while (defined(my $line = <$client>)) {
        $head .= $line;
        last if $line eq "\r\n";
    }

    my ($path) = $head =~ m{^\S+ (\S+)};
    my $body = '';

    if ($head =~ /^Content-Length: (\d+)/mi) {
        read $client, $body, $1;

    } elsif ($head =~ /^Transfer-Encoding: chunked/mi) {
        while (defined(my $line = <$client>)) {
            my $size = hex $line;

            read $client, my $chunk, $size + 2;
            $body .= substr $chunk, 0, $size;
            last if $size == 0;
        }
    }

    answer($client, $path // '/', "$head$body");
}


sub answer {
    my ($client, $path, $said) = @_;

    my $fixed = "Content-Type: text/plain\r\nX-Origin: yes\r\n";
    my $length = length $said;

    if ($said =~ /^HEAD /) {
        print $client "HTTP/1.1 200 OK\r\n${fixed}"
            . "Content-Length: $length\r\n\r\n";

    } elsif ($path =~ /chunked/) {
        my @pieces = unpack '(a50)*', $said;

        print $client "HTTP/1.1 200 OK\r\n${fixed}"
            . "Transfer-Encoding: chunked\r\n\r\n";
        print $client sprintf("%x\r\n%s\r\n", length, $_) for @pieces;
        print $client "0\r\n\r\n";

    } elsif ($path =~ /until-close/) {
        print $client "HTTP/1.1 200 OK\r\n${fixed}Connection: close\r\n\r\n"
            . $said;
        exit;

    } elsif ($path =~ /broken/) {
        print $client "HTTP/1.1 200 OK\r\n${fixed}"
            . "Content-Length: 100000\r\n\r\n$said";
        exit;

    } elsif ($path =~ /nothing/) {
        exit;

    } elsif ($path =~ /elsewhere/) {
        print $client "HTTP/1.1 200 OK\r\n${fixed}Content-Length: 0\r\n"
            . "X-Accel-Redirect: /plain/small.txt\r\n\r\n";

    } else {
        my $status = $path =~ /(\d{3})$/ ? "$1 Told" : '200 OK';

        print $client "HTTP/1.1 $status\r\n${fixed}"
            . "Content-Length: $length\r\n\r\n$said";
    }
}
