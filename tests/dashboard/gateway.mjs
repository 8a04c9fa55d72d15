// The page against a running gateway under load: signing in, numbers equal to
// the API's and to the provider's, keys by the keyboard alone, a hidden tab,
// a gateway that goes away and comes back.

import { BASE, SECRET, VIEWS, accessible, api, ask, content, day, done, equal,
         hangUp, is, launch, ok, open, until, view } from './lib.mjs';

const GATEWAY = process.env.GATEWAY_URL;
const browser = await launch();
const opened = await open(browser);
const { page, watch } = opened;


function chat(key, text) {
    return fetch(`${GATEWAY}/chat/completions`, { method: 'POST',
        headers: { Authorization: `Bearer ${key}`,
                   'Content-Type': 'application/json' },
        body: JSON.stringify({ model: 'gpt-4o-mini',
            messages: [{ role: 'user', content: text }] }) })
        .then(async (answer) => {
            await answer.arrayBuffer();
            return answer.status;
        });
}


async function files() {
    const answer = await fetch(`${BASE}/dashboard/`);
    const text = await answer.text();
    const policy = answer.headers.get('content-security-policy') ?? '';

    is(answer.status, 200, 'the page is served');

    for (const rule of ["default-src 'none'", "script-src 'self'",
        "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"])
    {
        ok(policy.split('; ').includes(rule), `policy: ${rule}`, policy);
    }

    ok(!policy.includes('unsafe'), 'policy: nothing unsafe');
    ok(!/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/i.test(text),
       'no inline script or style');
    ok(!/(src|href)="(https?:)?\/\//.test(text), 'nothing from elsewhere');

    for (const [path, type] of [['js/main.js', 'text/javascript'],
        ['style.css', 'text/css'], ['icon.svg', 'image/svg+xml']])
    {
        const file = await fetch(`${BASE}/dashboard/${path}`);

        is((file.headers.get('content-type') ?? '').split(';')[0], type,
           `${path}: type`);
        await file.arrayBuffer();
    }

    const bare = await fetch(`${BASE}/dashboard`, { redirect: 'manual' });
    is(bare.headers.get('location'), '/dashboard/', 'without the slash');
}


async function wrongSecret() {
    // what the browser itself says of a 401
    watch.expected = /status of 401/;

    await page.goto(`${BASE}/dashboard/`);
    is(await page.evaluate(() => document.activeElement.id), 'secret',
       'the secret can be typed at once');
    await page.keyboard.type('not-the-secret');
    await page.keyboard.press('Enter');
    await until('a wrong secret is said to be wrong', async () =>
        (await content(page, '#sign-in-error')).includes('does not take'));
    is(await page.evaluate(() => sessionStorage.length), 0,
       'and is not kept');
    is(await page.$eval('#nav', (e) => e.hidden), true, 'nothing opens');

    await page.keyboard.type('schlüssel');
    await page.keyboard.press('Enter');
    await until('as is one that no header can carry', async () =>
        (await content(page, '#sign-in-error')).includes('does not take'));

    // one that was good once
    await page.evaluate(() =>
        sessionStorage.setItem('ngx-llm-admin-secret', 'good-once'));
    await page.reload();
    await until('one that is not good any more asks for another', async () =>
        (await content(page, '#sign-in-error')).includes('any more'));
    is(await page.evaluate(() => sessionStorage.length), 0, 'it is forgotten');
    watch.expected = null;
}


async function underLoad() {
    await page.$eval('#secret', (e) => { e.value = ''; });
    await page.focus('#secret');
    await page.keyboard.type(SECRET);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#view-usage:not([hidden])');
    is(await page.evaluate(() => localStorage.length), 0,
       'nothing is stored beyond the tab');
    ok(!(await page.evaluate(() => document.documentElement.outerHTML))
        .includes(SECRET), 'the secret is not in the page');

    await view(page, 'live');
    await until('running requests are seen', () => page.$eval(
        '#live-tiles dd', (e) => Number(e.dataset.value) > 0));
    await page.waitForSelector('#slots tbody tr');
    ok((await content(page, '#slots')).includes('loaded'),
       'with the slots of their key');
    await page.waitForSelector('#targets tbody tr');
    ok((await content(page, '#targets')).includes('closed'),
       'the target with its breaker');

    // what one answer says is what is shown of it
    const answer = await page.waitForResponse((r) =>
        r.url().endsWith('/status'));
    const { requests, workers, version } = await answer.json();

    await until('the page shows what the answer says', () => page.$eval(
        '#live-tiles dd', (e, n) => e.dataset.value === String(n),
        requests.running), 1500);
    ok((await content(page, '#status')).includes(`ngx-llm ${version}`),
       'the version');
    ok((await content(page, '#status')).includes(`${workers} worker`),
       'the workers');
}


// Nothing runs any more: the page, the API and the provider agree.

async function numbers() {
    await ask('quiet');

    const billed = await (await fetch(
        `${process.env.MOCK_URL}/__mock/stats`)).json();

    for (const by of ['team', 'model']) {
        const path = day(by);
        let wanted;

        // the books may lag a moment behind the last answer
        await until(`by ${by}: the API has all tokens of the provider`,
            async () => {
                wanted = (await api(path)).json;
                return wanted.total?.completion_tokens
                    === billed.completion_tokens;
            });

        await equal(page, by, wanted);
    }

    const status = (await api('status')).json;

    await view(page, 'live');
    await until('the money of today is the API\'s', () => page.$$eval(
        '#live-tiles dd', (l, n) => l[4].dataset.value === n,
        String(status.day.usd)));
    await until('nothing runs', () => page.$eval('#live-tiles dd', (e) =>
        e.dataset.value === '0'));
    await until('and no slot is in use', () => page.$eval('#slots-note',
        (e) => !e.hidden && e.textContent.includes('Nothing runs')));

    await view(page, 'teams');

    const { json } = await api('teams/search');

    ok((await page.$$eval('#teams tbody tr', (rows) => rows.map((row) =>
        [row.querySelector('bdi').textContent, row.children[2].dataset.value,
         row.children[4].dataset.value].join()))).includes(
        ['search', json.day.requests, json.day.usd].join()),
       'a team\'s requests and money are the API\'s');
    ok((await content(page, '#teams')).includes(
        json.spend.budget_usd.toFixed(2)), 'and its budget');
}


// Tab, until the element with the focus is the one
async function tabTo(selector, what) {
    for (let i = 0; i < 60; i++) {
        if (await page.evaluate((s) => document.activeElement.matches(s),
                                selector))
        {
            return true;
        }

        await page.keyboard.press('Tab');
    }

    return ok(false, `Tab comes to ${what}`);
}

const closed = () => page.waitForFunction(() =>
    !document.querySelector('dialog'));

const button = (name) => `#keys tbody tr[data-key="admin ${name}"] button`;

async function choose(name, action) {
    await page.waitForSelector(button(name));
    await tabTo(button(name), `the button of ${name}`);
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]');
    await tabTo(`dialog [data-action="${action}"]`, action);
    await page.keyboard.press('Enter');
}


async function byKeyboard() {
    const name = 'made-by-keys';

    await page.evaluate(() => document.activeElement.blur());
    await view(page, 'keys');
    await page.focus('#main');
    await tabTo('#key-create', '"Create a key"');
    ok(await page.evaluate(() => getComputedStyle(document.activeElement)
        .outlineStyle !== 'none'), 'the focus is to be seen');
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]');

    // around once: the focus does not leave the dialog for the page
    let outside = 0;

    for (let i = 0; i < 20; i++) {
        await page.keyboard.press('Tab');
        outside += await page.evaluate(() =>
            document.activeElement !== document.body
            && !document.activeElement.closest('dialog'));
    }

    is(outside, 0, 'the focus stays in the dialog');
    await page.keyboard.press('Escape');
    await closed();
    is(await page.evaluate(() => document.activeElement.id), 'key-create',
       'Esc ends it and gives the focus back');

    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]');
    await tabTo('dialog [name="name"]', 'the name');
    await page.keyboard.type(name);
    await tabTo('dialog [name="requests_per_minute"]', 'a limit');
    await page.keyboard.type('lots');
    await page.keyboard.press('Enter');
    await until('a wrong limit is said to be wrong', async () =>
        (await content(page, 'dialog .error')).includes('whole number'));
    await page.keyboard.down('Control');
    await page.keyboard.press('a');
    await page.keyboard.up('Control');
    await page.keyboard.type('1200');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#made-secret');

    const secret = await page.$eval('#made-secret', (e) => e.value);

    ok(/^sk-llm-[0-9A-Za-z]{40}$/.test(secret), 'a secret is shown');
    is(await page.evaluate(() => document.activeElement.dataset.action),
       'copy', 'with the focus on "Copy"');

    // not yet copied: the first Esc warns
    await page.keyboard.press('Escape');
    await until('Esc warns before the secret is lost', async () =>
        (await content(page, 'dialog .error')).includes('not been copied'));
    await page.keyboard.press('Enter');
    await until('it is copied', async () => await page.evaluate(() =>
        navigator.clipboard.readText()) === secret);
    await page.keyboard.press('Escape');
    await closed();
    ok(!(await page.evaluate(() => document.documentElement.outerHTML))
        .includes(secret), 'the secret is gone from the page');

    const made = (await api(`keys/${name}`)).json;

    is([made.name, made.requests_per_minute], [name, 1200],
       'the API knows the key');
    is(await chat(secret, 'keyboard 1'), 200, 'the key works');

    // a second one of the same name
    watch.expected = /status of 409/;
    await tabTo('#key-create', '"Create a key"');
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]');
    await page.keyboard.type(name);
    await page.keyboard.press('Enter');
    await until('a second key of that name is refused, in the dialog',
        async () => (await content(page, 'dialog .error')) !== '');
    await page.keyboard.press('Escape');
    await closed();
    watch.expected = null;

    await choose(name, 'disable');
    await page.waitForSelector('dialog [data-action="confirm"]');
    await tabTo('dialog [data-action="confirm"]', 'the confirmation');
    await page.keyboard.press('Enter');
    await closed();
    await until('the row says "disabled"', () => page.$eval(
        `#keys tr[data-key="admin ${name}"] .badge`, (e) =>
            e.textContent === 'disabled'));
    is((await api(`keys/${name}`)).json.enabled, false, 'so does the API');
    await until('the key is refused', async () =>
        await chat(secret, 'keyboard 2') === 403, 3000);

    await choose(name, 'enable');
    await until('it is enabled again', async () =>
        (await api(`keys/${name}`)).json.enabled !== false);

    await rotateRaiseDelete(name, secret);
}


async function rotateRaiseDelete(name, secret) {
    await closed();
    await choose(name, 'rotate');
    await page.waitForSelector('dialog [name="grace_s"]');
    await page.select('dialog [name="grace_s"]', '0');
    await page.click('dialog [data-action="confirm"]');
    await page.waitForSelector('#made-secret');

    const next = await page.$eval('#made-secret', (e) => e.value);

    ok(next !== secret, 'another secret');
    await page.click('dialog [data-action="copy"]');
    await page.click('dialog [data-action="close"]');
    await closed();
    await until('the new secret works', async () =>
        await chat(next, 'keyboard 3') === 200, 3000);
    await until('the old one does not', async () =>
        await chat(secret, 'keyboard 4') === 401, 3000);

    await choose(name, 'raise');
    await page.waitForSelector('dialog [name="value"]');
    await page.type('dialog [name="value"]', '5000');
    await page.click('dialog [data-action="confirm"]');
    await closed();

    const raised = (await api(`keys/${name}`)).json;

    is(raised.raises.map((r) => [r.limit, r.value]),
       [['requests_per_minute', 5000]], 'a limit is raised');
    is(raised.effective.requests_per_minute, 5000, 'and in force');
    await until('the row shows it', () => page.$eval(
        `#keys tr[data-key="admin ${name}"]`, (e) =>
            e.textContent.includes('↑')));

    await choose(name, 'lower');
    await until('and taken back', async () =>
        (await api(`keys/${name}`)).json.raises.length === 0);
    await closed();

    await choose(name, 'delete');
    await page.waitForSelector('dialog [data-action="confirm"]');
    is((await api(`keys/${name}`)).status, 200,
       'nothing is deleted before it is confirmed');
    await page.click('dialog [data-action="confirm"]');
    await until('the row is gone', () => page.evaluate((s) =>
        !document.querySelector(s), button(name)));
    is((await api(`keys/${name}`)).status, 404, 'and the key');

    // a key of the file is only looked at
    await page.waitForSelector('#keys tr[data-key="file loaded"]');
    await page.click('#keys tr[data-key="file loaded"] button');
    await page.waitForSelector('dialog[open]');
    is(await page.$$eval('dialog button', (l) => l.map((b) =>
        b.textContent)), ['Close'], 'a key of the file can only be looked at');
    await page.keyboard.press('Escape');
    await closed();

    await page.type('#keys-filter', 'loade');
    await until('the filter', () => page.$$eval('#keys tbody tr', (l) =>
        l.length === 1 && l[0].textContent.includes('loaded')));
}


async function purge() {
    await view(page, 'live');
    await page.select('#purge-class', 'team');
    await page.type('#purge-name', 'search');
    await page.click('#purge button');
    await page.waitForSelector('dialog [data-action="purge"]');

    const [answer] = await Promise.all([
        page.waitForResponse((r) => r.url().endsWith('/cache/purge')),
        page.click('dialog [data-action="purge"]')]);

    is((await answer.json()).purged, { class: 'team', name: 'search' },
       'a team\'s answers are purged');
    await closed();
}


// tasks that wait: one is cancelled by its id, then all of the team go

async function tasks() {
    await view(page, 'tasks');
    const tile = (i) => page.$$eval('#task-tiles dd', (l, n) =>
        l[n].dataset.value, i);

    is(await tile(0), '3', 'three tasks wait');
    is(await page.$$eval('#task-teams tbody tr', (l) => l.map((e) =>
        `${e.children[0].textContent} ${e.children[1].textContent}`)),
       ['support 3'], 'whose they are');

    await page.type('#task-id', process.env.TASK_ID);
    await page.keyboard.press('Enter');
    await until('one is cancelled', async () => await tile(0) === '2');

    await page.click('#task-teams button');
    await page.waitForSelector('dialog [data-action="purge"]');

    const [answer] = await Promise.all([
        page.waitForResponse((r) => r.url().endsWith('/tasks/purge')),
        page.click('dialog [data-action="purge"]')]);

    is((await answer.json()).removed, 3, 'all of the team are removed');
    await closed();
    await until('none is left', async () => await tile(0) === '0');
    ok(await page.$('#task-teams-note:not([hidden])') !== null,
       'and the page says so');
}


// a tab that is not seen asks nothing

async function hidden() {
    let asked = 0;
    const counts = () => { asked++; };

    await page.evaluate(() => {
        Object.defineProperty(document, 'hidden', { configurable: true,
            get: () => window.isHidden });
        window.isHidden = true;
        document.dispatchEvent(new Event('visibilitychange'));
    });
    await page.waitForNetworkIdle({ idleTime: 200 });

    // a poll every 2 s would be seen twice
    page.on('request', counts);
    await page.waitForNetworkIdle({ idleTime: 5000, timeout: 20000 });
    is(asked, 0, 'a hidden tab asks nothing');

    await page.evaluate(() => {
        window.isHidden = false;
        document.dispatchEvent(new Event('visibilitychange'));
    });
    await until('it goes on when it is seen again', () => asked > 0, 3000);
    page.off('request', counts);
}


async function away() {
    watch.expected = /Failed to load resource|ERR_CONNECTION/;
    await ask('stop');
    await page.waitForSelector('#banner:not([hidden])');
    ok(/Not reachable since \d\d:\d\d:\d\d/.test(
        await content(page, '#banner')), 'it says since when it is away');
    ok(/^\d{4}-\d\d-\d\d .*UTC$/.test(await page.$eval('#banner', (e) =>
        e.title)), 'and in UTC');
    ok(await page.$('#view-live:not([hidden])') !== null,
       'what was shown stays');

    await ask('start');
    await page.waitForSelector('#banner[hidden]', { timeout: 20000 });
    ok(true, 'it goes on by itself');
    watch.expected = null;

    const answer = await page.waitForResponse((r) =>
        r.url().endsWith('/status'));
    is(answer.status(), 200, 'without another sign-in');
}


async function end() {
    for (const name of VIEWS) {
        await view(page, name);
        await accessible(page, name);
    }

    await page.click('#sign-out');
    await page.waitForSelector('#sign-in:not([hidden])');
    is(await page.evaluate(() => sessionStorage.length), 0,
       'after signing out the secret is forgotten');
    is(watch.complaints, [], 'no word on the console');
    is(watch.foreign, [], 'no request to another origin');
}


await files();
await wrongSecret();
await underLoad();
await numbers();
await byKeyboard();
await tasks();
await purge();
await hidden();
await away();
await end();
await browser.close();
hangUp();
done();
