// Files and batches, by the official Node SDK, unmodified.

import assert from 'node:assert/strict';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.NODE_HOME + '/');
const { default: OpenAI, toFile } = await import(
    pathToFileURL(require.resolve('openai')).href);

const { GATEWAY_URL, BATCH_KEY, MOCK_TEXT } = process.env;

const LINES = 1000;
const c = new OpenAI({ baseURL: GATEWAY_URL, apiKey: BATCH_KEY });
const tests = [];

function test(name, call) {
    tests.push([name, call]);
}

function line(number, text) {
    return JSON.stringify({ custom_id: `request-${number}`, method: 'POST',
        url: '/v1/chat/completions', body: { model: 'gpt-4o',
            messages: [{ role: 'user',
                content: `node ${number} ${text}` }] } });
}

function lines(call) {
    return Array.from({ length: LINES }, (_, i) => call(i));
}

async function start(all, more = {}) {
    const file = await c.files.create({ purpose: 'batch',
        file: await toFile(Buffer.from(all.join('\n')), 'input.jsonl') });

    assert.equal(file.status, 'processed');

    return c.batches.create({ input_file_id: file.id,
        endpoint: '/v1/chat/completions', completion_window: '24h', ...more });
}

async function poll(batch, done) {
    const until = Date.now() + 120_000;

    while (!done(batch)) {
        assert.ok(Date.now() < until, JSON.stringify(batch));
        await sleep(100);
        batch = await c.batches.retrieve(batch.id);
    }

    return batch;
}

function ended(batch) {
    return poll(batch, (b) => ['completed', 'failed', 'expired', 'cancelled']
        .includes(b.status));
}

async function rows(id) {
    const found = new Map();

    if (!id) {
        return found;
    }

    for (const text of (await (await c.files.content(id)).text())
        .trimEnd().split('\n')) {
        const row = JSON.parse(text);

        assert.ok(!found.has(row.custom_id));
        found.set(row.custom_id, row);
    }

    return found;
}

async function both(batch) {
    const good = await rows(batch.output_file_id);
    const bad = await rows(batch.error_file_id);

    assert.deepEqual(batch.request_counts, { total: LINES,
        completed: good.size, failed: bad.size });

    for (let i = 0; i < LINES; i++) {
        const id = `request-${i}`;
        assert.notEqual(good.has(id), bad.has(id), id);
    }

    return [good, bad];
}

test('thousand_lines', async () => {

    // from a stream: chunked, without a length

    const dir = mkdtempSync(join(tmpdir(), 'batch-'));
    const path = join(dir, 'input.jsonl');

    writeFileSync(path, lines((i) => line(i, i % 100 < 3 ? 'batch no-good'
        : 'batch')).join('\n'));

    const file = await c.files.create({ purpose: 'batch',
        file: createReadStream(path),
        expires_after: { anchor: 'created_at', seconds: 86400 } });

    rmSync(dir, { recursive: true });

    const batch = await ended(await c.batches.create({
        input_file_id: file.id, endpoint: '/v1/chat/completions',
        completion_window: '24h' }));

    assert.equal(batch.status, 'completed');

    const [good, bad] = await both(batch);

    assert.equal(bad.size, 30);

    for (const row of good.values()) {
        assert.equal(row.response.status_code, 200);
        assert.equal(row.response.body.choices[0].message.content, MOCK_TEXT);
        assert.equal(row.error, null);
    }

    for (const row of bad.values()) {
        assert.equal(row.response.status_code, 400);
        assert.ok(row.response.body.error.message);
    }
});

test('cancelled_in_the_middle', async () => {
    let batch = await start(lines((i) => line(i, 'batch slow')));

    batch = await poll(batch, (b) => b.request_counts.completed >= 20);
    batch = await c.batches.cancel(batch.id);
    assert.equal(batch.status, 'cancelling');

    batch = await ended(batch);
    assert.equal(batch.status, 'cancelled');

    const [good, bad] = await both(batch);

    assert.ok(good.size >= 20 && good.size < LINES, String(good.size));

    for (const row of bad.values()) {
        assert.equal(row.error.code, 'batch_cancelled');
        assert.equal(row.response, null);
    }
});

test('wrong_lines', async () => {
    const batch = await ended(await start([line(1, ''), '{']));

    assert.equal(batch.status, 'failed');
    assert.deepEqual(batch.errors.data.map((e) => [e.line, e.code]),
        [[2, 'invalid_json_line']]);
});

test('pages', async () => {
    const ids = [];

    for await (const batch of c.batches.list({ limit: 1 })) {
        ids.push(batch.id);
    }

    assert.ok(ids.length >= 3);
    assert.equal(new Set(ids).size, ids.length);
});

test('unknown', async () => {
    await assert.rejects(c.batches.retrieve('batch_none'),
        (e) => e.status === 404);
});

console.log(`1..${tests.length}`);

for (const [i, [name, call]] of tests.entries()) {
    try {
        await call();
        console.log(`ok ${i + 1} - batch.mjs ${name}`);

    } catch (e) {
        process.exitCode = 1;
        console.log(`not ok ${i + 1} - batch.mjs ${name}`);
        console.log(String(e.stack).replace(/^/gm, '# '));
    }
}
