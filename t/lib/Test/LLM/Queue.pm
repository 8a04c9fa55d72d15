package Test::LLM::Queue;

# The queue of tasks as the module sees it: calls of queue.lua in a Redis.

use warnings;
use strict;

use Cwd qw(abs_path);
use Digest::SHA qw(sha1_hex);
use File::Basename qw(dirname);


sub new {
    my ($class, $redis) = @_;

    my $path = abs_path(dirname(__FILE__) . '/../../../..')
        . '/ngx_module/tasks/queue.lua';

    open my $in, '<', $path or die "$path: $!\n";
    my $script = do { local $/; <$in> };

    return bless { redis => $redis, script => $script,
        sha => sha1_hex($script) }, $class;
}


# what stands in front of each key

sub prefix { '{llm}:t:' }


# call(operation, words): the reply

sub call {
    my ($self, @words) = @_;

    my $redis = $self->{redis};

    unshift @words, 1, prefix();

    my $reply = eval { [$redis->command(EVALSHA => $self->{sha}, @words)] };
    return $reply->[0] if $reply;

    die $@ if $@ !~ /NOSCRIPT/;
    return $redis->command(EVAL => $self->{script}, @words);
}


1;
