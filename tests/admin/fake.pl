#!/usr/bin/perl

# fake.pl DIR: says what DIR/answers.json tells it to say, so that a client
# of the admin API can be shown answers that a gateway never gives.  Prints
# its port; each request is a line of JSON in DIR/requests.
#
# answers.json: {"GET /keys": [status, body, how]}, by method and path
# without /admin/v1; the query is looked for first with, then without.  A body
# that is no string is sent as JSON, a string byte for byte.  How: "cut" ends within the body,
# "silent" does not answer, "huge" goes on for 40 MB.

use warnings;
use strict;

use IO::Socket::INET;
use JSON::PP;


my $dir = shift or die "fake.pl DIR\n";
my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16)
    or die "listen: $!\n";
my @silent;

$SIG{PIPE} = 'IGNORE';
$| = 1;
print 'port ', $server->sockport, "\n";

while (my $client = $server->accept) {
    serve($client);
}


sub serve {
    my ($client) = @_;

    my ($head, $body) = ('', '');

    while ($head !~ /\r\n\r\n/) {
        sysread($client, $head, 65536, length $head) or return;
    }

    ($head, $body) = split /\r\n\r\n/, $head, 2;
    my $length = $head =~ /^Content-Length: *(\d+)/mi ? $1 : 0;

    while (length $body < $length) {
        sysread($client, $body, 65536, length $body) or return;
    }

    my ($method, $target) = $head =~ m{^(\S+) /admin/v1(\S*) };
    my ($path) = ($target // '') =~ /^([^?]*)/;
    my ($authorization) = $head =~ /^Authorization: *(.*?)\r?$/mi;

    open my $log, '>>', "$dir/requests" or die "$dir/requests: $!\n";
    print $log $json->encode({ method => $method, target => $target,
        authorization => $authorization,
        body => length $body ? $json->decode($body) : undef }), "\n";
    close $log;

    my $answers = answers();
    my $answer = $answers->{"$method $target"} // $answers->{"$method $path"}
        // [404, { error => { message => 'There is no such URL.',
            type => 'invalid_request_error', param => undef,
            code => 'unknown_url' } }];

    my ($status, $text, $how) = @$answer;
    $how //= '';
    $text = $json->encode($text) if ref $text;
    utf8::downgrade($text, 1) or utf8::encode($text);

    if ($how eq 'silent') {
        push @silent, $client;
        return;
    }

    $text = 'x' x (40 * 1024 * 1024) if $how eq 'huge';
    $length = length($text) + ($how eq 'cut' ? 10 : 0);

    print $client "HTTP/1.1 $status Whatever\r\n",
        "Content-Type: application/json\r\nContent-Length: $length\r\n",
        "Connection: close\r\n\r\n", $text;
    close $client;
}


sub answers {
    open my $in, '<', "$dir/answers.json" or return {};
    local $/;

    return $json->decode(<$in>);
}
