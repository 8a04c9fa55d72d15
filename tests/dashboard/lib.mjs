// What both programs of this folder need: TAP, a browser, a watched page.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import readline from 'node:readline';

const home = process.env.NODE_HOME;
const { default: puppeteer } = await import(
    `${home}/node_modules/puppeteer-core/lib/puppeteer/puppeteer-core.js`);
const axe = fs.readFileSync(`${home}/node_modules/axe-core/axe.min.js`,
                            'utf8');

export const BASE = process.env.DASHBOARD_URL;
export const SECRET = process.env.DASHBOARD_SECRET;

let count = 0;

export function ok(good, what, detail) {
    console.log(`${good ? '' : 'not '}ok ${++count} - ${what}`);

    if (!good && detail !== undefined) {
        console.log(`# ${typeof detail === 'string' ? detail
            : JSON.stringify(detail)}`.replaceAll('\n', '\n# '));
    }

    return good;
}

export function is(got, wanted, what) {
    return ok(Object.is(got, wanted)
              || JSON.stringify(got) === JSON.stringify(wanted), what,
              `got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`);
}

export function done() {
    console.log(`1..${count}`);
}


// what the program that started this one is to do: "! WORD" and its "done"

const lines = readline.createInterface({ input: process.stdin });
const answers = [];

lines.on('line', () => answers.shift()?.());

export function ask(word) {
    return new Promise((resolve) => {
        answers.push(resolve);
        console.log(`! ${word}`);
    });
}

export function hangUp() {
    lines.close();
    process.stdin.destroy();
}


export function sha256(path) {
    return createHash('sha256').update(fs.readFileSync(path)).digest('hex');
}


export function launch() {
    return puppeteer.launch({ executablePath: process.env.CHROMIUM
            || '/usr/bin/chromium', headless: true, pipe: true,
        args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
               '--no-proxy-server'] });
}


// A page with its complaints: what the console says, what the policy forbids,
// what goes to another origin.  expected: a pattern of what a test brings
// about itself.

export async function open(browser, width = 1440, height = 900) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const watch = { complaints: [], foreign: [], expected: null };

    await context.overridePermissions(new URL(BASE).origin,
        ['clipboard-read', 'clipboard-write']);
    await page.setViewport({ width, height });
    await page.evaluateOnNewDocument(() => {
        document.addEventListener('securitypolicyviolation', (e) =>
            console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    });

    const complain = (text) => {
        if (!watch.expected?.test(text)) {
            watch.complaints.push(text);
        }
    };

    page.on('console', (m) => {
        if (['error', 'warn', 'assert'].includes(m.type())) {
            complain(`${m.type()}: ${m.text()}`);
        }
    });
    page.on('pageerror', (e) => complain(`exception: ${e.stack ?? e}`));
    page.on('dialog', (d) => {
        complain(`dialog: ${d.message()}`);
        d.dismiss();
    });
    page.on('request', (r) => {
        const url = new URL(r.url());

        if (url.protocol !== 'data:' && url.origin !== new URL(BASE).origin) {
            watch.foreign.push(r.url());
        }
    });

    return { page, watch, context };
}


export async function until(what, f, timeout = 20000) {
    const end = Date.now() + timeout;

    for (;;) {
        const value = await f();

        if (value || Date.now() > end) {
            return ok(!!value, what) && value;
        }

        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}


export async function signIn(page) {
    await page.goto(`${BASE}/dashboard/`);
    await page.type('#secret', SECRET);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#view-usage:not([hidden])');
}


// shows a view and waits until it is filled

const FILLED = {
    usage: '#sums tbody tr', live: '#live-tiles div',
    tasks: '#task-tiles div', teams: '#teams tbody tr',
    keys: '#keys tbody tr',
};

export async function view(page, name) {
    await page.evaluate((hash) => { location.hash = hash; }, name);
    await page.waitForSelector(`#view-${name}:not([hidden])`);
    await page.waitForSelector(FILLED[name]);
}


export const VIEWS = Object.keys(FILLED);

export const content = (page, selector) =>
    page.$eval(selector, (e) => e.textContent);


// serious and critical only: the others are matters of taste

export async function accessible(page, what) {
    await page.evaluate(axe);

    const found = await page.evaluate(async () => {
        const { violations } = await window.axe.run(document, {
            resultTypes: ['violations'] });

        return violations.filter((v) =>
            ['serious', 'critical'].includes(v.impact)).map((v) =>
            `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 4).join(' ')}`);
    });

    ok(found.length === 0, `${what}: axe finds nothing serious`,
       found.join('\n'));
}


export async function fits(page, what) {
    const width = await page.evaluate(() => [innerWidth,
        document.documentElement.scrollWidth, visualViewport.width]);

    ok(width[1] <= width[0], `${what}: nothing is wider than the page`, width);
}


// a colour's lightness, 0 (black) to 1

export function lightness(page, selector) {
    return page.$eval(selector, (e) => {
        const [r, g, b] = getComputedStyle(e).backgroundColor
            .match(/[\d.]+/g).map(Number);

        return (r + g + b) / 765;
    });
}


export async function api(path, method = 'GET', body) {
    const answer = await fetch(`${BASE}/admin/v1/${path}`, { method,
        headers: { Authorization: `Bearer ${SECRET}` },
        body: body && JSON.stringify(body) });

    return { status: answer.status, json: await answer.json() };
}


// the usage of the last 24 hours by team or model, as the page asks for it

export function day(by) {
    const from = (Math.floor(Date.now() / 3600000) + 1) * 3600 - 86400;

    return `usage?period=hour&from=${from}&group_by=${by}&buckets=false`;
}


// the table of sums of the last 24 hours against an answer of the API

export async function equal(page, by, wanted) {
    await page.evaluate((value) => {
        document.querySelector('[name="range"][value="24h"]').click();
        document.querySelector(`[name="by"][value="${value}"]`).click();
    }, by);

    // a visit elsewhere, and what is shown is new
    await view(page, 'teams');
    await view(page, 'usage');
    await until(`by ${by}: the page has the API's total`, () =>
        page.$$eval('#sums tr.total td', (l, n) =>
            l[0]?.dataset.value === n, String(wanted.total.requests)));

    const shown = await page.$$eval('#sums tbody tr', (rows) =>
        rows.map((row) => [row.querySelector('bdi').textContent,
            ...[...row.querySelectorAll('td')].map((td) =>
                td.dataset.value)]));
    const line = (label, s) => [label, s.requests, s.errors, s.cache_hits,
        s.requests > 0 ? s.cache_hits / s.requests : '', s.prompt_tokens,
        s.cached_tokens, s.completion_tokens, s.reasoning_tokens, s.usd,
        s.saved_usd, s.unpriced].map(String);
    const order = (list) => list.map(String).sort();

    is(order(shown), order([...wanted.data.map((row) =>
        line(row[by] ?? '(no team)', row)), line('Total', wanted.total)]),
       `by ${by}: every number is the API's`);
}
