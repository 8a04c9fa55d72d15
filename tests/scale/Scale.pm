package Scale;

# What the scale checks measure with: clients that do little, the processes'
# own words, a table.

use warnings;
use strict;

use parent 'Exporter';

use Digest::SHA qw(sha256_hex);
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time sleep);


our @EXPORT = qw(row secret answer requests load probe ended cpu anon memory
    turns turns_clear until_true);

my $body = '{"model":"gpt-4o","messages":[{"role":"user","content":"'
    . 'hello ' x 100 . '"}]}';
my @rows;


sub row {
    my ($what, $value) = @_;

    push @rows, [$what, $value];
    print "# $what: $value\n";
}


sub table {
    my $wide = 0;

    for (@rows) {
        $wide = length $_->[0] if length $_->[0] > $wide;
    }

    printf "# %-${wide}s | %s\n", @$_ for ['what', 'value'], @rows;
}


sub until_true {
    my ($condition, $seconds) = @_;

    my $until = time + $seconds;

    until ($condition->()) {
        return 0 if time > $until;
        sleep 0.02;
    }

    return 1;
}


sub secret { 'sk-llm-' . substr sha256_hex("$_[0] secret"), 0, 40 }


# --- clients

sub dial {
    my ($t) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $t->port) or return undef;
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    return $socket;
}


sub ask {
    my ($socket, $key) = @_;

    my $request = defined $key
        ? "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
          . 'Authorization: Bearer ' . secret($key) . "\r\nContent-Type: "
          . "application/json\r\nContent-Length: " . length($body)
          . "\r\n\r\n$body"
        : "GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n";

    return syswrite $socket, $request;
}


# a whole answer: (status, pid); nothing: the connection was closed

sub hear {
    my ($socket) = @_;

    my $text = '';

    while (1) {
        my $n = sysread $socket, $text, 65536, length $text;
        return if !$n;

        next if $text !~ /\r\n\r\n/;

        my ($end) = $+[0];
        my ($len) = $text =~ /^Content-Length: (\d+)\r/mi;

        die "no length: $text" if !defined $len;
        next if length($text) < $end + $len;

        return ($text =~ /^HTTP\S+ (\d+)/, $text =~ /^X-Pid: (\d+)/m);
    }
}


# one request on a connection of its own: its status, the worker

sub answer {
    my ($t, $key) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $socket = dial($t) or return wantarray ? () : 0;
    my ($status, $pid) = ask($socket, $key) ? hear($socket) : ();

    return wantarray ? ($status // 0, $pid) : $status // 0;
}


# "n" of them, eight at a time on connections that stay

sub requests {
    my ($t, $n, $key) = @_;

    my $select = IO::Select->new;
    my $sent = 0;

    for (1 .. 8) {
        my $socket = dial($t) or die 'no connection';
        $select->add($socket);
        ask($socket, $key->());
        $sent++;
    }

    while ($select->count) {
        for my $socket ($select->can_read) {
            my ($status) = hear($socket);

            die 'answered ' . ($status // 'nothing')
                if ($status // 0) != 200;

            if ($sent++ < $n) {
                ask($socket, $key->());

            } else {
                $select->remove($socket);
            }
        }
    }
}


# processes that go on until ended(): some 200 requests per second by eight
# connections, which are renewed when they were closed

sub load  { background($_[0], 8, 0.04, 0) }
sub probe { background($_[0], 6, 0.006, undef) }

sub background {
    my ($t, $connections, $pause, $key) = @_;

    pipe my $in, my $out or die "pipe: $!";
    my $pid = fork() // die "fork: $!";

    if ($pid) {
        close $out;
        return { pid => $pid, in => $in };
    }

    close $in;

    my $done = 0;
    my (%count, @socket, @used);

    local $SIG{TERM} = sub { $done = 1 };
    local $SIG{PIPE} = 'IGNORE';

    $count{max} = 0;

    my $parent = getppid;

    until ($done || getppid != $parent) {
        for my $i (0 .. $connections - 1) {
            my $from = time;
            my $status = once(\$socket[$i], $t, known($key));

            # an idle connection may end just when it is used again

            $status //= once(\$socket[$i], $t, known($key)) if $used[$i];
            $used[$i] = defined $status;

            my $ms = (time - $from) * 1e3;

            $count{$status // 'closed'}++;
            $count{max} = $ms if $ms > $count{max};
            $count{over}++ if $ms > 50;
            sleep $pause / $connections;
        }
    }

    print $out map { "$_ $count{$_}\n" } keys %count;
    close $out;
    POSIX::_exit(0);
}


# on a connection that is made if need be; undef: it was closed

sub once {
    my ($socket, $t, $key) = @_;

    $$socket //= dial($t) or return undef;

    my ($status) = ask($$socket, $key) ? hear($$socket) : ();
    $$socket = undef if !defined $status;

    return $status;
}


# keys that are there before, between and after all changes

sub known {
    my ($probe) = @_;
    return defined $probe ? 50 + int rand 50 : undef;
}


sub ended {
    my ($what) = @_;

    kill 'TERM', $what->{pid};

    my %count = map { /^(\S+) (\S+)$/ ? ($1 => $2) : () }
        readline $what->{in};
    waitpid $what->{pid}, 0;

    return \%count;
}


# --- processes

# seconds of the processor, in steps of ns

sub cpu {
    my ($t) = @_;

    my $sum = 0;

    for my $pid ($t->workers) {
        open my $file, '<', "/proc/$pid/schedstat" or next;
        $sum += (split ' ', <$file>)[0];
    }

    return $sum / 1e9;
}


# private memory, in bytes

sub anon {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/status" or return 0;
    my ($kb) = join('', <$file>) =~ /^RssAnon:\s+(\d+)/m;

    return ($kb // 0) * 1024;
}


sub memory {
    my ($t, $keys, $of) = @_;

    my ($touched) = area($t);

    $of //= '';

    for (['master', $t->master], map { ['worker', $_] } $t->workers) {
        my ($name, $pid) = @$_;

        open my $file, '<', "/proc/$pid/status" or next;
        my %kb = join('', <$file>) =~ /^(Rss\w+|VmHWM):\s+(\d+)/mg;

        row("$of$name", sprintf 'private %.1f MB, shared %.1f MB, most ever '
            . '%.0f MB', map { $_ / 1024 } @kb{qw(RssAnon RssShmem VmHWM)});
    }

    row("${of}keys= in use", sprintf '%.1f MB, %.0f bytes per key',
        $touched / 1e6, $touched / $keys);
}


# what of the keyring's memory has been touched, by the one who touched most

sub area {
    my ($t) = @_;

    my $most = 0;

    for my $pid ($t->master, $t->workers) {
        my ($shared, $size, $rss);

        open my $file, '<', "/proc/$pid/smaps" or next;

        while (<$file>) {
            $shared = /^\S+ rw-s .*zero/ if /^[0-9a-f]+-/;
            $size = $1 if /^Size:\s+(\d+)/;
            $rss = $1 if /^Rss:\s+(\d+)/;
            next if !/^VmFlags/ || !$shared || $size != $t->{area} * 1024;
            $most = $rss if $rss > $most;
        }
    }

    return $most * 1024;
}


# --- turns of the event loop (turn.c)

sub turns_clear {
    my ($dir) = @_;

    for my $file (glob "$dir/turn.*") {
        open my $out, '+<', $file or next;
        syswrite $out, "\0" x 64;
    }
}


sub turns {
    my ($dir) = @_;

    my %most = (n => 0, cpu => 0, wall => 0, over => 0,
        over_wall => 0);

    for my $file (glob "$dir/turn.*") {
        open my $in, '<', $file or next;
        sysread $in, my $words, 40;
        my ($n, $cpu, $wall, $over, $over_wall) = unpack 'Q5', $words;

        $cpu /= 1e6;
        $wall /= 1e6;
        $most{cpu} = $cpu if $cpu > $most{cpu};
        $most{wall} = $wall if $wall > $most{wall};
        $most{n} += $n;
        $most{over} += $over;
        $most{over_wall} += $over_wall;
    }

    return \%most;
}


1;
