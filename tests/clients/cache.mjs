// What the cache gives back, as the official Node SDK puts it together: a
// stream from a stored answer and an answer from a stored stream.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.NODE_HOME + '/');
const { default: OpenAI } = await import(
    pathToFileURL(require.resolve('openai')).href);

const { GATEWAY_URL, GATEWAY_KEY, MOCK_URL, MOCK_TEXT,
    CACHE_CASES } = process.env;
const cases = JSON.parse(readFileSync(CACHE_CASES));
const tests = [];

function test(name, call) {
    tests.push([name, call]);
}

// the SDK, and what each answer's Cache-Status was

class Client {
    status = [];
    tries = [];

    constructor(options = {}) {
        this.sdk = new OpenAI({ baseURL: GATEWAY_URL, apiKey: GATEWAY_KEY,
            maxRetries: 0, ...options, fetch: async (url, init) => {
                this.tries.push(new Headers(init.headers)
                    .get('x-stainless-retry-count'));
                const answer = await fetch(url, init);
                this.status.push(answer.headers.get('cache-status') ?? '');
                return answer;
            } });
    }

    async miss(call) {
        const answer = await call(this.sdk);

        assert.match(this.status.at(-1), /fwd=/);
        return answer;
    }

    // an answer is stored when its end is there, which its reader may have
    // seen a moment earlier

    async hit(call) {
        const until = performance.now() + 5000;

        for (;;) {
            const answer = await call(this.sdk);

            if (this.status.at(-1).startsWith('ngx-llm; hit')) {
                return answer;
            }

            assert.ok(performance.now() < until, this.status.at(-1));
            await pause(10);
        }
    }
}

// how many calls the provider got

async function asked(model) {
    const journal = await (await fetch(MOCK_URL + '/__mock/journal')).json();

    assert.equal(journal.dropped, 0);
    return journal.requests.filter(
        (r) => r.body && JSON.parse(r.body).model === model).length;
}

function argumentsOf(item, direction) {
    const more = { ...item.params,
        model: `cache-${item.name}-node-${direction}` };

    if (item.call === 'chat') {
        more.messages = [{ role: 'user', content: 'say' }];
    }
    return more;
}

// What a provider adds to a delta the SDK overwrites with the next one's: it
// is joined by hand.

async function streamChat(sdk, params) {
    const stream = sdk.chat.completions.stream(params);
    const added = [];

    stream.on('chunk', (chunk) => {
        for (const { index, delta } of chunk.choices) {
            added[index] = (added[index] ?? '')
                + (delta.reasoning_content ?? '');
        }
    });

    const answer = await stream.finalChatCompletion();

    for (const { index, message } of answer.choices) {
        if ('reasoning_content' in message) {
            message.reasoning_content = added[index];
        }
    }
    return answer;
}

async function streamResponses(sdk, { stream_options, ...params }) {
    const stream = sdk.responses.stream(params);
    let n = 0;

    stream.on('event', (event) => assert.equal(event.sequence_number, n++));

    const answer = await stream.finalResponse();

    assert.ok(n > 2);
    return answer;
}

// the SDK has no helper for these: joined by hand

async function streamCompletions(sdk, params) {
    const stream = await sdk.completions.create({ ...params, stream: true });
    const choices = [];
    let whole;

    for await (const piece of stream) {
        whole = { ...piece, usage: piece.usage ?? whole?.usage ?? null };

        for (const { index, text, logprobs, finish_reason }
            of piece.choices) {
            const old = choices[index] ??= { index, text: '', logprobs: null,
                finish_reason: null };

            old.text += text;
            old.finish_reason ??= finish_reason;

            for (const [name, list] of Object.entries(logprobs ?? {})) {
                old.logprobs ??= {};
                (old.logprobs[name] ??= []).push(...list);
            }
        }
    }

    return { ...whole, choices };
}

const streamed = { chat: streamChat, responses: streamResponses,
    completions: streamCompletions };
const plain = {
    chat: (sdk, params) => sdk.chat.completions.parse(params),
    responses: (sdk, params) => sdk.responses.parse(params),
    completions: (sdk, params) => sdk.completions.create(params),
};

// all of it but padding, which a stored answer has none of; null is nothing,
// for a delta tells it and an answer does not

function members(answer, usage = true) {
    const all = JSON.parse(JSON.stringify(answer, (name, value) =>
        (value === null || name === 'obfuscation' ? undefined : value)));

    if (!usage) {
        delete all.usage;
    }
    return all;
}

async function fromStream(item, usage) {
    const params = argumentsOf(item, usage ? 'with' : 'without');
    const wish = (include_usage) =>
        ({ ...params, stream_options: { include_usage } });
    const read = streamed[item.call];
    const client = new Client();

    const live = await client.miss((sdk) => read(sdk, wish(usage)));
    const replayed = await client.hit((sdk) => read(sdk, wish(usage)));
    const otherwise = await client.hit((sdk) => read(sdk, wish(!usage)));
    const whole = await client.hit((sdk) => plain[item.call](sdk, params));

    assert.deepEqual(members(replayed), members(live));
    assert.deepEqual(members(otherwise, false), members(live, false));
    assert.deepEqual(members(whole, false), members(live, false));

    if (item.call === 'responses') {
        assert.deepEqual(members(whole), members(live));

    } else {
        const [has, hasNot] = usage ? [live, otherwise] : [otherwise, live];

        assert.deepEqual(members(whole), members(has));
        assert.ok(!hasNot.usage);
    }

    assert.equal(await asked(params.model), 1);
}

async function fromJSON(item) {
    const params = argumentsOf(item, 'json');
    const client = new Client();

    const live = await client.miss((sdk) => plain[item.call](sdk, params));
    const again = await client.hit((sdk) => plain[item.call](sdk, params));
    const stream = await client.hit((sdk) => streamed[item.call](sdk,
        { ...params, stream_options: { include_usage: true } }));

    assert.deepEqual(members(again), members(live));
    assert.deepEqual(members(stream), members(live));
    assert.equal(await asked(params.model), 1);
}

for (const item of cases) {
    test(`${item.name}: streamed, then replayed`,
        () => fromStream(item, false));
    test(`${item.name}: the same with usage`, () => fromStream(item, true));
    test(`${item.name}: whole, then streamed`, () => fromJSON(item));
}

test('embeddings', async () => {
    for (const encoding of [undefined, 'float']) {
        const params = { model: `cache-vector-${encoding}-node`,
            input: ['a', 'b'], encoding_format: encoding };
        const client = new Client();

        const first = await client.miss(
            (sdk) => sdk.embeddings.create(params));
        const second = await client.hit(
            (sdk) => sdk.embeddings.create(params));

        assert.equal(first.data.length, 2);
        assert.equal(first.data[0].embedding.length, 16);
        assert.deepEqual(members(second), members(first));
        assert.equal(await asked(params.model), 1);
    }
});

// the client gives up its first try; its second gets what that asked for,
// whether others could have it or not

test('own_retry_joins', async () => {
    const messages = [{ role: 'user', content: 'slow' }];
    const textOf = (answer) => answer.choices[0].message.content;
    const calls = {
        chat: async (sdk, model) => textOf(
            await sdk.chat.completions.create({ model, messages })),
        kept: async (sdk, model) => textOf(
            await sdk.chat.completions.create(
                { model, messages, store: true })),
        stream: async (sdk, model) => {
            let text = '';

            for await (const chunk of await sdk.chat.completions.create(
                { model, messages, stream: true })) {
                text += chunk.choices[0]?.delta?.content ?? '';
            }
            return text;
        },
        response: async (sdk, model) => (await sdk.responses.create(
            { model, input: 'slow' })).output_text,
    };

    await Promise.all(Object.entries(calls).map(async ([kind, call]) => {
        const client = new Client({ maxRetries: 1, timeout: 1000 });
        const model = `cache-slow-${kind}-node`;

        assert.equal(await call(client.sdk, model), MOCK_TEXT);
        assert.deepEqual(client.tries, ['0', '1']);
        assert.equal(await asked(model), 1, kind);
    }));
});

console.log(`1..${tests.length}`);

let failed = 0;

for (const [i, [name, call]] of tests.entries()) {
    try {
        await call();
        console.log(`ok ${i + 1} - node cache ${name}`);

    } catch (error) {
        failed++;
        console.log(`not ok ${i + 1} - node cache ${name}`);
        console.log(String(error.stack).replace(/^/gm, '# '));
    }
}

process.exit(failed ? 1 : 0);
