// A dead provider, asked by the official Node SDK, which tries three times by
// default: the gateway's three attempts are not multiplied by that.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.NODE_HOME + '/');
const { default: OpenAI } = await import(
    pathToFileURL(require.resolve('openai')).href);

const { DEAD_URL, DEAD_TRIES, GATEWAY_KEY, METRICS_URL } = process.env;

const cases = [
    ['refused', 503, 'upstream_unavailable'],
    ['ill', 503, null],
    ['hanging', 504, 'upstream_timeout'],
];

// how many calls of it the gateway has counted, whatever became of them

async function attempts(provider) {
    const page = await (await fetch(METRICS_URL)).text();
    const line = new RegExp('^llm_upstream_attempts_total\\{[^}]*provider="'
        + provider + '"[^}]*\\} (\\d+)$', 'gm');

    return [...page.matchAll(line)].reduce((sum, m) => sum + Number(m[1]), 0);
}

async function oneCall(provider, status, code, more) {
    const before = await attempts(provider);
    let sent = 0;

    const client = new OpenAI({ baseURL: DEAD_URL, apiKey: GATEWAY_KEY,
        fetch: (...args) => {
            sent++;
            return fetch(...args);
        } });

    await assert.rejects(client.chat.completions.create({ model: provider,
        messages: [{ role: 'user', content: 'node ' + JSON.stringify(more) }],
        ...more }), (error) => error.status === status && error.code === code);

    const calls = await attempts(provider) - before;
    assert.equal(calls, Number(DEAD_TRIES), `of ${sent} requests`);
}

console.log(`1..${cases.length * 2}`);

let number = 0;
let failed = 0;

for (const [provider, status, code] of cases) {
    for (const more of [{}, { stream: true }]) {
        const name = `${++number} - node dead ${provider}`
            + (more.stream ? '_stream' : '_json');

        try {
            await oneCall(provider, status, code, more);
            console.log(`ok ${name}`);

        } catch (error) {
            failed++;
            console.log(`not ok ${name}`);
            console.log(String(error.stack).replace(/^/gm, '# '));
        }
    }
}

process.exit(failed ? 1 : 0);
