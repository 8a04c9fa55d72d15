package Test::LLM;

# The part of the harness that looks at the metrics of a gateway: what is in
# use, who waits, and whether all of it comes back.

use warnings;
use strict;

use Test::More ();
use Time::HiRes qw(time);


# a metric's value, -1: there is none.  With labels it is the sum of all series
# that have these, and 0 for a counter that has none yet.  One connection
# serves many looks; it ends with its worker.

sub metric {
    my ($self, $name) = @_;

    my %spec = (path => '/metrics', port => $self->port('PORT_ADMIN'));
    my $page = delete $self->{page};

    if ($page) {
        $page = $page->again(%spec);
        $page->wait;
    }

    if (!$page || !$page->complete) {
        $page = $self->get('/metrics', %spec);
    }

    $self->{page} = $page if $page->complete;

    my ($family, @labels) = split /[{},]/, $name;
    my $body = $page->body // '';
    my $sum = @labels && $body =~ /^# TYPE \Q$family\E counter$/m ? 0 : -1;

    while ($body =~ /^\Q$family\E(?:\{(.*)\})? (\d+(?:\.\d+)?)$/mg) {
        my ($has, $n) = ("," . ($1 // '') . ",", $2);
        next if grep { index($has, ",$_,") < 0 } @labels;
        $sum = ($sum < 0 ? 0 : $sum) + $n;
    }

    return $sum;
}


# tests that it becomes a value; gives the seconds that this took

sub becomes {
    my ($self, $name, $value, $what, $patience) = @_;

    my $start = time;
    my $is;

    $self->until(sub { ($is = $self->metric($name)) == $value },
        $patience // 10);

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::is($is, $value, $what);

    return time - $start;
}


sub waiting {
    my ($self, $n, $what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->becomes('llm_slots_waiting', $n, $what // "$n in line");
}


sub in_use {
    my ($self, $n, $what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->becomes('llm_slots_in_use', $n, $what // "$n slots");
}


# tests that no slot is held and nobody waits

sub all_back {
    my ($self, $what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $self->in_use(0, "$what: the slots are back");
    Test::More::is($self->metric('llm_slots_waiting'), 0,
        "$what: nobody in line");
    Test::More::is($self->metric('llm_ledger_tickets_used'), 0,
        "$what: no ticket is left");
}


1;
