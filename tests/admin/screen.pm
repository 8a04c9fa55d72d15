package screen;

# A terminal for a program: a pty, and as much of an emulator as is needed to
# say what stands on it.  Core Perl and Linux's numbers are enough.

use warnings;
use strict;

use Fcntl qw(O_RDWR O_NOCTTY);
use POSIX qw(:sys_wait_h :termios_h);
use Time::HiRes qw(time);


use constant {
    TIOCSCTTY => 0x540e, TIOCSWINSZ => 0x5414, TIOCSPTLCK => 0x40045431,
    TIOCGPTN => 0x80045430,
};


sub start {
    my ($class, $columns, $lines, @command) = @_;

    sysopen my $master, '/dev/ptmx', O_RDWR | O_NOCTTY or die "ptmx: $!\n";
    my $number = pack 'i', 0;
    ioctl $master, TIOCSPTLCK, $number or die "unlock: $!\n";
    ioctl $master, TIOCGPTN, $number or die "number: $!\n";
    my $name = '/dev/pts/' . unpack 'i', $number;

    # open until the end, so that its state can be seen
    sysopen my $slave, $name, O_RDWR | O_NOCTTY or die "$name: $!\n";

    my $self = bless { master => $master, slave => $slave, out => '',
        columns => $columns, lines => $lines, screen => [], row => 0,
        column => 0, other => 0, shown => 1, scrolled => 0 }, $class;

    $self->resize($columns, $lines);

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        POSIX::setsid();
        ioctl $slave, TIOCSCTTY, 0;
        open STDIN, '<&', $slave;
        open STDOUT, '>&', $slave;
        open STDERR, '>&', $slave;
        $ENV{TERM} = 'xterm';
        exec { $command[0] } @command or POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    return $self;
}


sub pid { $_[0]{pid} }
sub shown { $_[0]{shown} }
sub other { $_[0]{other} }
sub scrolled { $_[0]{scrolled} }
sub out { $_[0]{out} }


sub resize {
    my ($self, $columns, $lines) = @_;

    my $size = pack 'S4', $lines, $columns, 0, 0;
    ioctl $self->{master}, TIOCSWINSZ, $size or die "size: $!\n";
    @$self{qw(columns lines)} = ($columns, $lines);
}


sub type {
    my ($self, $keys) = @_;
    syswrite $self->{master}, $keys;
}


# does it echo and collect lines, as a shell wants it?

sub cooked {
    my ($self) = @_;

    my $termios = POSIX::Termios->new;
    $termios->getattr(fileno $self->{slave});

    return ($termios->getlflag & (ECHO | ICANON)) == (ECHO | ICANON);
}


# reads until the condition is true; false when that takes too long

sub until {
    my ($self, $true, $s) = @_;

    my $end = time + ($s // 10);

    while (!$true->($self)) {
        my $left = $end - time;
        return 0 if $left <= 0;

        my $bits = '';
        vec($bits, fileno $self->{master}, 1) = 1;
        next if select($bits, undef, undef, $left < 0.05 ? $left : 0.05) <= 0;

        my $n = sysread $self->{master}, my $part, 65536;
        next if !$n;

        $self->{out} .= $part;
        $self->emulate($part);
    }

    return 1;
}


sub shows {
    my ($self, $pattern, $s) = @_;
    return $self->until(sub { $_[0]->text =~ $pattern }, $s);
}


# the status of its end, undef when it goes on

sub ended {
    my ($self, $s) = @_;

    my $status;
    $self->until(sub {
        my $pid = waitpid $self->{pid}, WNOHANG;
        $status = $? if $pid == $self->{pid};
        return defined $status;
    }, $s);

    if (!defined $status) {
        kill 'KILL', $self->{pid};
        waitpid $self->{pid}, 0;
    }

    # what is still on its way
    $self->until(sub { 0 }, 0.2);

    return $status;
}


sub text {
    my ($self) = @_;

    return join "\n", map { my $line = join '', map { $_ // ' ' } @{$_ // []};
        $line =~ s/ +$//; $line } @{$self->{screen}};
}


sub emulate {
    my ($self, $part) = @_;

    $self->{rest} .= $part;

    while (length $self->{rest}) {
        if ($self->{rest} =~ s/^\e\[(\??)([\d;]*)([A-Za-z])//) {
            $self->control($1, $2, $3);

        } elsif ($self->{rest} =~ /^\e/) {
            last if length $self->{rest} < 16;
            die "an unknown sequence\n";

        } elsif ($self->{rest} =~ s/^\r//) {
            $self->{column} = 0;

        } elsif ($self->{rest} =~ s/^\n//) {
            if (++$self->{row} >= $self->{lines}) {
                shift @{$self->{screen}};
                $self->{row}--;
                $self->{scrolled}++;
            }

        } elsif ($self->{rest} =~ s/^([\xc2-\xf4][\x80-\xbf]+|.)//s) {
            $self->{screen}[$self->{row}][$self->{column}++] = $1
                if $self->{column} < $self->{columns};
        }
    }
}


sub control {
    my ($self, $private, $number, $letter) = @_;

    if ($private) {
        $self->{other} = $letter eq 'h' ? 1 : 0 if $number eq '1049';
        $self->{shown} = $letter eq 'h' ? 1 : 0 if $number eq '25';

    } elsif ($letter eq 'H') {
        @$self{qw(row column)} = (0, 0);

    } elsif ($letter eq 'K') {
        my $line = $self->{screen}[$self->{row}] //= [];
        splice @$line, $self->{column} if @$line > $self->{column};

    } elsif ($letter eq 'J') {
        my $from = $number eq '2' ? 0 : $self->{row} + 1;
        my $line = $self->{screen}[$self->{row}] //= [];
        splice @$line, $self->{column}
            if $number ne '2' && @$line > $self->{column};
        splice @{$self->{screen}}, $from if @{$self->{screen}} > $from;
    }
}


1;
