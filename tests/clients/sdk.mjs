// The official Node SDK, unmodified, through the gateway.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.NODE_HOME + '/');
const { default: OpenAI } = await import(
    pathToFileURL(require.resolve('openai')).href);

const { GATEWAY_URL, GATEWAY_KEY, NARROW_KEY, SLOW_KEY, TOKENS_KEY, POOR_KEY,
    MOCK_TEXT } = process.env;
const tests = [];

function test(name, call) {
    tests.push([name, call]);
}

function client(options = {}) {
    return new OpenAI({ baseURL: GATEWAY_URL, apiKey: GATEWAY_KEY,
        ...options });
}

// a client that tries five times more, and how often it has asked

function counting(options) {
    const sent = { n: 0 };
    const c = client({ maxRetries: 5, ...options, fetch: (...args) => {
        sent.n++;
        return fetch(...args);
    } });

    return [c, sent];
}

function say(text, more = {}) {
    return { model: 'gpt-4o',
        messages: [{ role: 'user', content: 'node ' + text }], ...more };
}

async function textOf(stream) {
    let text = '';

    for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? '';
    }

    return text;
}

test('chat', async () => {
    const answer = await client().chat.completions.create(say('chat'));

    assert.equal(answer.choices[0].message.content, MOCK_TEXT);
    assert.equal(answer.usage.total_tokens, 30);
    assert.ok(answer._request_id);
});

test('chat_stream', async () => {
    const stream = await client().chat.completions.create(
        say('stream', { stream: true }));

    assert.equal(await textOf(stream), MOCK_TEXT);
});

test('chat_stream_usage', async () => {
    const stream = await client().chat.completions.create(say('usage',
        { stream: true, stream_options: { include_usage: true } }));
    let last;

    for await (const chunk of stream) {
        last = chunk;
    }

    assert.equal(last.usage.total_tokens, 30);
});

test('stream_helper', async () => {
    const stream = client().chat.completions.stream(say('helper'));
    const answer = await stream.finalChatCompletion();

    assert.equal(answer.choices[0].message.content, MOCK_TEXT);
});

test('ten_at_once', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) =>
        client().chat.completions.create(say('at once ' + i))));

    assert.ok(answers.every(
        (a) => a.choices[0].message.content === MOCK_TEXT));
});

test('completions', async () => {
    const answer = await client().completions.create(
        { model: 'gpt-4o', prompt: 'node' });

    assert.equal(answer.choices[0].text, MOCK_TEXT);
});

test('embeddings', async () => {
    const answer = await client().embeddings.create(
        { model: 'text-embedding-3-small', input: ['node a', 'node b'] });

    assert.equal(answer.data.length, 2);
    assert.equal(answer.data[0].embedding.length, 16);
});

test('responses', async () => {
    const answer = await client().responses.create(
        { model: 'gpt-4o', input: 'node' });

    assert.equal(answer.output_text, MOCK_TEXT);
});

test('responses_stream', async () => {
    const stream = await client().responses.create(
        { model: 'gpt-4o', input: 'node stream', stream: true });
    let text = '';
    let last;

    for await (const event of stream) {
        last = event;
        if (event.type === 'response.output_text.delta') {
            text += event.delta;
        }
    }

    assert.equal(text, MOCK_TEXT);
    assert.equal(last.type, 'response.completed');
});

test('models', async () => {
    const ids = [];

    for await (const model of client().models.list()) {
        ids.push(model.id);
    }

    assert.ok(ids.includes('gpt-4o'), ids.join());
    assert.equal((await client().models.retrieve('gpt-4o')).id, 'gpt-4o');
});

test('wrong_key', async () => {
    await assert.rejects(client({ apiKey: 'sk-llm-wrong' })
        .chat.completions.create(say('wrong')), (error) =>
        error instanceof OpenAI.AuthenticationError
            && error.code === 'invalid_api_key');
});

test('model_not_allowed', async () => {
    await assert.rejects(client({ apiKey: NARROW_KEY })
        .chat.completions.create(say('narrow', { model: 'gpt-4.1' })),
    (error) => error instanceof OpenAI.NotFoundError
        && error.code === 'model_not_found');
});

test('rate_limit', async () => {
    const slow = client({ apiKey: SLOW_KEY });
    const start = performance.now();

    for (let i = 0; i < 6; i++) {
        const answer = await slow.chat.completions.create(say('limit ' + i));

        assert.equal(answer.choices[0].message.content, MOCK_TEXT);
    }

    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds > 0.8 && seconds < 5, seconds + ' s');
});

test('token_limit', async () => {
    const [c, sent] = counting({ apiKey: TOKENS_KEY });
    const start = performance.now();

    for (let i = 0; i < 3; i++) {
        const answer = await c.chat.completions.create(
            say('tokens ' + i, { max_tokens: 20 }));

        assert.equal(answer.choices[0].message.content, MOCK_TEXT);
    }

    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds > 0.5 && seconds < 6, seconds + ' s');

    const before = sent.n;
    await assert.rejects(c.chat.completions.create(
        say('huge', { max_tokens: 100000 })), (error) =>
        error.status === 413 && error.code === 'request_too_large');
    assert.equal(sent.n - before, 1);
});

test('budget', async () => {
    const [c, sent] = counting({ apiKey: POOR_KEY });

    await c.chat.completions.create(
        say('dear', { model: 'dear-node', max_tokens: 20 }));

    await assert.rejects(c.chat.completions.create(
        say('dearer', { model: 'dear-node', max_tokens: 20 })), (error) =>
        error instanceof OpenAI.RateLimitError
            && error.code === 'insufficient_quota');
    assert.equal(sent.n, 2);
});

test('provider_retried', async () => {
    const answer = await client({ maxRetries: 0 }).chat.completions.create(
        say('flaky', { model: 'flaky-node' }));

    assert.equal(answer.choices[0].message.content, MOCK_TEXT);
});

test('stream_left_early', async () => {
    const stream = await client().chat.completions.create(
        say('early', { stream: true }),
        { headers: { 'x-mock-pace-ms': '50' } });

    for await (const chunk of stream) {
        assert.ok(chunk);
        break;
    }

    const answer = await client().chat.completions.create(say('after early'));

    assert.equal(answer.choices[0].message.content, MOCK_TEXT);
});

test('stream_cut', async () => {
    const stream = await client().chat.completions.create(
        say('cut', { model: 'cut-node', stream: true }));

    await assert.rejects(textOf(stream));
});

console.log(`1..${tests.length}`);

let failed = 0;

for (const [i, [name, call]] of tests.entries()) {
    try {
        await call();
        console.log(`ok ${i + 1} - node ${name}`);

    } catch (error) {
        failed++;
        console.log(`not ok ${i + 1} - node ${name}`);
        console.log(String(error.stack).replace(/^/gm, '# '));
    }
}

process.exit(failed ? 1 : 0);
