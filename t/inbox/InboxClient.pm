package InboxClient;

# nginx with inboxes and a location that sends and tells what came, instead
# of the gateway.  at(pid, query) asks a given worker.

use warnings;
use strict;

use parent -norequire, 'RedisClient';

use Carp;
use Time::HiRes qw(time);


sub part { 'inbox' }


# inboxes(URL, ...): one or two, without waiting for anything

sub inboxes {
    my ($self, @urls) = @_;

    my $timeout = $self->sanitized ? 400 : 100;
    my $lines = join '', map { "llm_test_inbox \"$_\" $timeout;\n" } @urls;

    $self->nginx(<<"EOT");
%%GLOBALS%%

http {
    %%GLOBALS_HTTP%%
    keepalive_requests 1000000;
    $lines

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { llm_test_inbox_run; }
    }
}
EOT
}


# at(pid, 'do=what&...'): the answer's text; undef if there is none

sub at {
    my ($self, $pid, $query) = @_;

    my $to = $self->{to} //= {};
    my $until = time + 20;

    while (1) {
        while (!$to->{$pid}) {
            my $r = $self->get('/?do=pid');
            my ($worker) = ($r->body // '') =~ /^(\d+)/;

            $to->{$worker} //= $r if $worker;
            croak "no connection to worker $pid" if time > $until;
        }

        my $r = (delete $to->{$pid})->again(path => "/?$query");

        if ($r->wait && $r->status) {
            $to->{$pid} = $r;
            return $r->body;
        }

        croak "worker $pid does not answer" if time > $until;
    }
}


sub name { $_[0]->at($_[1], 'do=name' . ($_[2] // '')) =~ s/\s//gr }

# ready ups got median (us) ...
sub fact {
    my ($self, $pid, $name, $which) = @_;
    my $text = $self->at($pid, 'do=stat' . ($which // ''));
    return $text =~ /\b$name=(\d+)/ ? $1 : undef;
}


# ready(pids): all of them read

sub ready {
    my ($self, @pids) = @_;

    return $self->until(sub {
        !grep { !$self->fact($_, 'ready') } @pids ? @pids : $self->workers;
    }, 10);
}


# got(pid): [{ board, id, len, sum, head }, ...] since the last time

sub got {
    my ($self, $pid, $which) = @_;

    return map {
        my %l; @l{qw(board id len sum head)} = split ' '; \%l
    } split /\n/, $self->at($pid, 'do=got' . ($which // ''));
}


# wait_got(pid, n): the same when there are so many

sub wait_got {
    my ($self, $pid, $n, $seconds, $which) = @_;

    my @all;
    $self->until(sub {
        push @all, $self->got($pid, $which);
        return @all >= $n;
    }, $seconds // 10);

    return @all;
}


# the letter with a number, as the module makes it

sub letter {
    my ($seq, $size) = @_;

    my $letter = "S$seq:";
    $letter .= pack 'C*', map { ($seq * 31 + $_ * 7) & 255 }
        length $letter .. $size - 1;

    return $letter;
}


1;
