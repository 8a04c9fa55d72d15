# Answers that the cache must give back as they were: for each the members of
# the request, the events of the stream and the body of the answer without
# "stream".  Where they are missing, the mock makes them up by itself.

use warnings;
use strict;
use utf8;

my @cases;
my $text = qq{"Tromsø", said \\ the 北京 clerk:\n\t😀 naïve\x{1}. };

my %usage = (prompt_tokens => 12, completion_tokens => 34, total_tokens => 46,
    prompt_tokens_details => { cached_tokens => 3, audio_tokens => 0 },
    completion_tokens_details => { reasoning_tokens => 5 });

sub chunk {
    my ($choices, %more) = @_;

    return { id => 'chatcmpl-scripted', object => 'chat.completion.chunk',
        created => 1700000000, model => 'gpt-4o-2024-08-06',
        service_tier => 'default', system_fingerprint => 'fp_scripted',
        usage => undef, choices => $choices, %more };
}

sub delta {
    my ($delta, %more) = @_;

    return chunk([{ index => 0, delta => $delta, logprobs => undef,
        finish_reason => undef, %more }], obfuscation => 'x' x keys %more);
}

sub chat {
    my ($name, $params, $events, @messages) = @_;

    my $n = 0;
    my @choices = map { { index => $n++, finish_reason => 'stop',
        logprobs => undef, %$_ } } @messages;

    push @cases, { name => $name, call => 'chat', params => $params,
        events => [@$events, chunk([], usage => \%usage)],
        body => { id => 'chatcmpl-scripted', object => 'chat.completion',
            created => 1700000000, model => 'gpt-4o-2024-08-06',
            service_tier => 'default', system_fingerprint => 'fp_scripted',
            choices => \@choices, usage => \%usage } };
}

sub pieces {
    my ($string, $length) = @_;
    return unpack "(a$length)*", $string;
}

my %first = (role => 'assistant', content => '', refusal => undef);


push @cases, { name => 'text', call => 'chat', params => {} };

chat('unicode', {},
    [ delta(\%first),
      (map { delta({ content => $_ }) } pieces($text x 60, 7)),
      delta({}, finish_reason => 'stop') ],
    { message => { role => 'assistant', refusal => undef,
        content => $text x 60 } });


# two calls, their arguments in pieces, and many of them

my @arguments = (qq({"city":"Tromsø \\"N\\"","note":"${\ ('\u00e9' x 300)}"}),
    '{"city":"Oslo","note":"none"}');

my @tools = map { { type => 'function', function => { name => $_,
    strict => \1, parameters => { type => 'object',
        properties => { map { $_ => { type => 'string' } } qw(city note) },
        required => [qw(city note)], additionalProperties => \0 } } } }
    qw(weather tide);

chat('tools', { tools => \@tools },
    [ delta({ role => 'assistant', content => undef, refusal => undef }),
      (map { my $i = $_;
          delta({ tool_calls => [{ index => $i, id => "call_$i",
              type => 'function', function => {
                  name => $tools[$i]{function}{name}, arguments => '' } }] }),
          map { delta({ tool_calls => [{ index => $i,
              function => { arguments => $_ } }] }) }
              pieces($arguments[$i], 11) } 0, 1),
      delta({}, finish_reason => 'tool_calls') ],
    { finish_reason => 'tool_calls', message => { role => 'assistant',
        content => undef, refusal => undef,
        tool_calls => [map { { id => "call_$_", type => 'function',
            function => { name => $tools[$_]{function}{name},
                arguments => $arguments[$_] } } } 0, 1] } });


# the chunks of three choices come mixed

chat('choices', { n => 3, seed => 1 },
    [ (map { delta(\%first, index => $_) } 0 .. 2),
      (map { my $word = $_;
          map { delta({ content => "$word$_ " }, index => $_) } 2, 0, 1 }
          qw(one two three)),
      map { delta({}, index => $_,
          finish_reason => 'stop') } 1, 2, 0 ],
    map { my $i = $_;
        { message => { role => 'assistant', refusal => undef,
            content => join '', map { "$_$i " } qw(one two three) } } }
        0 .. 2);


my @tokens = map { my $token = $_;
    { token => $token, logprob => -0.25, bytes => [unpack 'C*', $token],
      top_logprobs => [{ token => $token, logprob => -0.25, bytes => undef },
          { token => 'Ä', logprob => -9999, bytes => [195, 132] }] } }
    qw(Hello there friend);

chat('logprobs', { logprobs => \1, top_logprobs => 2 },
    [ delta(\%first),
      (map { delta({ content => $_->{token} }, logprobs => {
          content => [$_], refusal => undef }) } @tokens),
      delta({}, finish_reason => 'stop') ],
    { logprobs => { content => \@tokens, refusal => undef },
      message => { role => 'assistant', refusal => undef,
          content => 'Hellotherefriend' } });

chat('refusal', {},
    [ delta({ role => 'assistant', content => undef, refusal => '' }),
      (map { delta({ refusal => $_ }) } 'I cannot ', 'help with ', 'that.'),
      delta({}, finish_reason => 'stop') ],
    { message => { role => 'assistant', content => undef,
        refusal => 'I cannot help with that.' } });

chat('reasoning', {},
    [ delta({ %first, reasoning_content => '' }),
      (map { delta({ reasoning_content => $_ }) } 'Let me ', 'think.'),
      (map { delta({ content => $_ }) } 'It is ', '42.'),
      delta({}, finish_reason => 'stop') ],
    { message => { role => 'assistant', refusal => undef,
        content => 'It is 42.', reasoning_content => 'Let me think.' } });


push @cases, { name => 'legacy', call => 'completions',
    params => { prompt => 'legacy' } };

my %completion = (id => 'cmpl-scripted', object => 'text_completion',
    created => 1700000000, model => 'gpt-3.5-turbo-instruct');

sub logged {
    my (@from) = @_;
    return { tokens => [@from], token_logprobs => [map { -0.5 } @from],
        top_logprobs => [map { { $_ => -0.5 } } @from],
        text_offset => [map { length } @from] };
}

push @cases, { name => 'legacy-logprobs', call => 'completions',
    params => { prompt => 'legacy', n => 2, seed => 1, logprobs => 1 },
    events => [
        (map { my $word = $_;
            map { { %completion, usage => undef, choices => [{ index => $_,
                text => "$word$_", logprobs => logged("$word$_"),
                finish_reason => undef }] } } 0, 1 } qw(one two)),
        (map { { %completion, usage => undef, choices => [{ index => $_,
            text => '', logprobs => undef, finish_reason => 'stop' }] } }
            0, 1),
        { %completion, choices => [], usage => \%usage } ],
    body => { %completion, usage => \%usage, choices => [map { my $i = $_;
        { index => $i, text => "one${i}two$i", finish_reason => 'stop',
          logprobs => logged("one$i", "two$i") } } 0, 1] } };


push @cases, { name => 'response', call => 'responses',
    params => { input => 'say', store => \0 } };

my %part = (type => 'output_text', text => $text x 20, logprobs => [],
    annotations => []);
my %call = (type => 'function_call', id => 'fc_1', call_id => 'call_1',
    name => 'weather', arguments => $arguments[0], status => 'completed');
my %message = (type => 'message', id => 'msg_1', role => 'assistant',
    status => 'completed', content => [\%part]);
my %response = (id => 'resp_1', object => 'response',
    created_at => 1700000000, status => 'completed', error => undef,
    incomplete_details => undef, instructions => undef, metadata => {},
    model => 'gpt-4o-2024-08-06', parallel_tool_calls => \1,
    temperature => 1, top_p => 1, tool_choice => 'auto', tools => [],
    store => \0, output => [\%message, \%call],
    usage => { input_tokens => 12, output_tokens => 34, total_tokens => 46,
        input_tokens_details => { cached_tokens => 3,
            cache_write_tokens => 0 },
        output_tokens_details => { reasoning_tokens => 5 } });

my %begun = (%response, status => 'in_progress', output => [],
    usage => undef);
my @events = (
    { type => 'response.created', response => \%begun },
    { type => 'response.in_progress', response => \%begun },
    { type => 'response.output_item.added', output_index => 0,
      item => { %message, status => 'in_progress', content => [] } },
    { type => 'response.content_part.added', item_id => 'msg_1',
      output_index => 0, content_index => 0, part => { %part, text => '' } },
    (map { { type => 'response.output_text.delta', item_id => 'msg_1',
        output_index => 0, content_index => 0, delta => $_,
        logprobs => [] } } pieces($part{text}, 13)),
    { type => 'response.output_text.done', item_id => 'msg_1',
      output_index => 0, content_index => 0, text => $part{text},
      logprobs => [] },
    { type => 'response.content_part.done', item_id => 'msg_1',
      output_index => 0, content_index => 0, part => \%part },
    { type => 'response.output_item.done', output_index => 0,
      item => \%message },
    { type => 'response.output_item.added', output_index => 1,
      item => { %call, arguments => '', status => 'in_progress' } },
    (map { { type => 'response.function_call_arguments.delta',
        item_id => 'fc_1', output_index => 1, delta => $_ } }
        pieces($arguments[0], 11)),
    { type => 'response.function_call_arguments.done', item_id => 'fc_1',
      output_index => 1, name => 'weather', arguments => $arguments[0] },
    { type => 'response.output_item.done', output_index => 1,
      item => \%call },
    { type => 'response.completed', response => \%response });

$events[$_]{sequence_number} = $_ for 0 .. $#events;

push @cases, { name => 'response-tools', call => 'responses',
    params => { input => 'call', store => \0 },
    events => \@events, body => \%response };

\@cases;
