// The page with example data: what no test can wait for (full budgets, open
// breakers, months of history), names with ill intent, both themes, narrow
// screens, accessibility; and pictures of it all into the folder
// DASHBOARD_PICTURES.

import fs from 'node:fs';

import { Example, HOSTILE, intercept } from './example.mjs';
import { VIEWS, accessible, content, done, fits, hangUp, is, launch, lightness,
         ok, open, sha256, signIn, until, view } from './lib.mjs';

const top = new URL('../../', import.meta.url).pathname;
const browser = await launch();


// what is vendored is what was published: npm has verified its own copy

function vendored() {
    const folder = fs.readdirSync(`${top}dashboard/vendor`)
        .find((name) => name.startsWith('uplot-'));
    const published = `${process.env.NODE_HOME}/node_modules/uplot`;
    const { version } = JSON.parse(fs.readFileSync(
        `${published}/package.json`));

    is(folder, `uplot-${version}`, 'the vendored version is the locked one');

    for (const [mine, theirs] of [
        ['uPlot.iife.min.js', 'dist/uPlot.iife.min.js'],
        ['uPlot.min.css', 'dist/uPlot.min.css'], ['LICENSE', 'LICENSE']])
    {
        is(sha256(`${top}dashboard/vendor/${folder}/${mine}`),
           sha256(`${published}/${theirs}`), `${mine} is as published`);
    }
}


async function clean({ page, watch, context }, what) {
    is(watch.complaints, [], `${what}: no word on the console`);
    is(watch.foreign, [], `${what}: no request to another origin`);
    await context.close();
}


async function levels() {
    const opened = await open(browser);
    const { page } = opened;
    const example = new Example();

    await intercept(page, example);
    await signIn(page);
    await view(page, 'usage');

    const query = (more) => new URLSearchParams({ period: 'hour',
        from: Math.floor(example.now / 3600 + 1) * 3600 - 86400, ...more });
    const { total } = example.usage(query({}));

    is(await page.$eval('#usage-tiles dd', (e) => e.dataset.value),
       String(total.requests), 'the tile has the sum of the requests');
    is(await page.$$eval('.charts .plot canvas', (l) => l.length), 8,
       'eight charts are drawn');

    // each chart has its numbers as a table
    await page.$eval('#chart-tokens details', (e) => { e.open = true; });
    await page.waitForSelector('#chart-tokens tbody tr');
    const cells = await page.$$eval('#chart-tokens tbody td', (list) =>
        list.reduce((sum, td) =>
            sum + Number(td.textContent.replaceAll(',', '')), 0));
    is(cells, total.prompt_tokens + total.completion_tokens,
       'the table of a chart adds up to the total');

    for (const range of ['1h', '7d', '90d']) {
        await page.evaluate((value) => document.querySelector(
            `[name="range"][value="${value}"]`).click(), range);
        await page.waitForSelector('#view-usage[data-shown^="'
            + { '1h': 'minute', '7d': 'hour', '90d': 'day' }[range] + '"]');
    }

    ok((await content(page, '#usage-note')).includes('UTC'),
       'of days it says that they are UTC');

    await view(page, 'teams');
    const badge = (name) => page.$$eval('#teams tbody tr', (rows, wanted) => {
        const row = rows.find((r) => r.querySelector('bdi').textContent
                              === wanted);
        const found = row.querySelector('.badge');

        return [found.dataset.level, found.textContent.replace(/\s/g, ' '),
                row.querySelector('.bar').dataset.level];
    }, name);
    is(await badge('support'), ['bad', '▲ spent, 101 %', 'bad'],
       'a spent budget says so, in red');
    is(await badge('research'), ['warn', '● 87 %', 'warn'],
       'at 80 % it is amber');
    is(await badge('search'), ['', '43 %', 'ok'], 'below it is neither');
    is(await content(page, '#teams tbody tr bdi'), 'support',
       'the most urgent is first');

    await view(page, 'live');
    await page.waitForSelector('#targets tbody tr');
    is(await page.$$eval('#targets .badge', (l) => l.map((e) =>
        e.textContent.replace(/^. /, ''))),
       ['closed', 'cooling', 'open', 'half open'], 'states of the breakers');
    is(await page.$$eval('#targets button', (l) => l.map((e) => e.disabled)),
       [true, false, false, false], 'what is closed has nothing to reset');

    // a row that stays keeps its button, and so the focus
    await page.focus('#targets tr:nth-child(3) button');
    example.open = false;
    await until('the open breaker closes by itself', () => page.$eval(
        '#targets tr:nth-child(3) .badge', (e) =>
            e.textContent.includes('closed')));
    example.open = true;

    await view(page, 'tasks');
    is(await page.$$eval('#task-tiles dd', (l) => l.map((e) =>
        e.dataset.value)), ['1240', '64', '12', '3', '4210', '180120'],
       'the queue of tasks in numbers');
    is(await page.$$eval('#task-teams tbody tr', (l) => l.map((e) =>
        [e.children[0].textContent, e.children[1].textContent])),
       [['research', '1,102'], ['search', '160'], ['~ci', '42']],
       'whose tasks they are');
    is(await page.$$eval('#task-dead tbody tr', (l) => l.map((e) =>
        e.children[2].textContent)), ['poison', 'deadline', 'HTTP 500'],
       'why some were given up');

    // what is being read stays where it is while the numbers change
    await page.focus('#task-teams tr:nth-child(2) button');
    await page.waitForResponse((r) => r.url().endsWith('/tasks'));
    is(await page.evaluate(() => document.activeElement.closest('tr')
        ?.children[0].textContent), 'search', 'a row keeps its focus');

    opened.watch.expected = /404/;
    example.queue = false;
    await page.waitForSelector('#tasks-all[hidden]');
    ok((await content(page, '#tasks-note')).length > 0,
       'without a queue the page says so');
    example.queue = true;
    await page.waitForSelector('#tasks-all:not([hidden])');
    opened.watch.expected = null;

    await clean(opened, 'example data');
}


// nothing of a name is taken for markup, anywhere

async function hostile() {
    const opened = await open(browser);
    const { page } = opened;

    await intercept(page, new Example({ hostile: true }));
    await signIn(page);

    for (const name of VIEWS) {
        await view(page, name);
        await page.waitForSelector('#live-tiles div');

        const seen = await page.$$eval(`#view-${name} bdi`, (list) =>
            list.map((e) => e.textContent));
        const missing = HOSTILE.filter((text) => !seen.includes(text));

        is(missing, [], `${name}: the names stand there as they are`);
        is(await page.$$eval('img, main script, b b, bdi *', (l) => l.length),
           0, `${name}: and made no element`);
    }

    await page.waitForSelector('#keys tbody tr');
    await page.evaluate(() => {
        [...document.querySelectorAll('#keys tbody tr')]
            .find((row) => row.textContent.includes('<img'))
            .querySelector('button').click();
    });
    await page.waitForSelector('dialog[open]');
    ok((await content(page, 'dialog h2')).includes(HOSTILE[1]),
       'also in a dialog');
    is(await page.$$eval('dialog img', (l) => l.length), 0, 'without effect');

    await page.setViewport({ width: 400, height: 800 });
    await fits(page, 'a dialog, 400 px');
    await page.keyboard.press('Escape');

    for (const name of VIEWS) {
        await view(page, name);
        await fits(page, `${name}, 400 px, long names`);
    }

    await clean(opened, 'names with ill intent');
}


async function looks() {
    const opened = await open(browser);
    const { page } = opened;

    await intercept(page, new Example());
    await page.goto(`${process.env.DASHBOARD_URL}/dashboard/`);
    await accessible(page, 'sign-in');
    await signIn(page);

    for (const theme of ['light', 'dark']) {
        await page.emulateMediaFeatures([
            { name: 'prefers-color-scheme', value: theme },
            { name: 'prefers-reduced-motion', value: 'reduce' }]);

        const light = await lightness(page, 'body');
        ok(theme === 'dark' ? light < 0.2 : light > 0.8,
           `the system's theme is followed: ${theme}`, light);

        for (const name of VIEWS) {
            await view(page, name);
            await accessible(page, `${name}, ${theme}`);
        }

        await page.click('#key-create');
        await page.waitForSelector('dialog[open]');
        await accessible(page, `a dialog, ${theme}`);
        await page.keyboard.press('Escape');
    }

    is(await page.$$eval('.bar div', (l) => l.map((e) =>
        getComputedStyle(e).transitionDuration).filter((t) => t !== '0s')),
       [], 'reduced motion: nothing moves');

    await page.select('#theme', 'light');
    ok(await lightness(page, 'body') > 0.8, 'the switch overrules the system');
    await page.reload();
    await page.waitForSelector('#view-keys:not([hidden])');
    ok(await lightness(page, 'body') > 0.8, 'and is remembered');

    await page.setViewport({ width: 400, height: 800 });

    for (const name of VIEWS) {
        await view(page, name);
        await fits(page, `${name}, 400 px`);
    }

    await clean(opened, 'looks');
}


async function pictures(folder) {
    for (const [file, name, theme, width, height] of [
        ['light', 'usage', 'light', 1440, 1000],
        ['dark', 'usage', 'dark', 1440, 1000],
        ['live', 'live', 'light', 1440, 930],
        ['teams', 'teams', 'dark', 1440, 560],
        ['keys', 'keys', 'light', 1440, 620],
        ['tasks', 'tasks', 'light', 1440, 640],
        ['narrow', 'usage', 'light', 400, 900]])
    {
        const { page, context } = await open(browser, width, height);

        await intercept(page, new Example());
        await page.emulateMediaFeatures([
            { name: 'prefers-color-scheme', value: theme },
            { name: 'prefers-reduced-motion', value: 'reduce' }]);
        await signIn(page);
        await view(page, name);
        await page.waitForNetworkIdle({ idleTime: 300 });
        await page.evaluate(() => document.activeElement.blur());

        const path = `${folder}/dashboard-${file}.png`;
        await page.screenshot({ path });
        ok(fs.statSync(path).size < 300 * 1024, `${path} is small enough`);
        await context.close();
    }
}


vendored();
await levels();
await hostile();
await looks();

await pictures(process.env.DASHBOARD_PICTURES);

await browser.close();
hangUp();
done();
