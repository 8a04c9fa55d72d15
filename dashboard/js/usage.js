// The view "Usage": what was asked for, by whom, and how fast it went.

import { get, signals } from './api.js';
import { Chart } from './charts.js';
import { $, el, facts, options, table, text, title } from './dom.js';
import * as format from './format.js';
import { Poll } from './poll.js';

const RANGES = {
    '1h': { period: 'minute', step: 60, span: 3600, said: 'the last hour' },
    '24h': { period: 'hour', step: 3600, span: 86400,
             said: 'the last 24 hours' },
    '7d': { period: 'hour', step: 3600, span: 7 * 86400,
            said: 'the last 7 days' },
    '90d': { period: 'day', step: 86400, span: 90 * 86400,
             said: 'the last 90 days' },
};

const SHOWN = 6;
const NO_TEAM = '(no team)';

const tokens = (row) => row.prompt_tokens + row.completion_tokens;
const ratio = (part, whole) => whole > 0 ? part / whole : null;

let charts = null;
let showSums = null;
let generation = 0;
const poll = new Poll(15000, refresh);


function buildCharts() {
    const parent = $('charts');
    const make = (id, name, unit, kind, shown, exact, least) =>
        new Chart(parent, { id: `chart-${id}`, name, unit, kind,
                            format: shown, exact, least });

    charts = {
        requests: make('requests', 'Requests', 'per hour', 'bars',
            format.short, format.exact),
        tokens: make('tokens', 'Tokens', 'prompt + answer', 'bars',
            format.short, format.exact),
        money: make('money', 'Money', 'US dollars', 'bars',
            format.money, format.moneyExact),
        saved: make('saved', 'Saved', 'US dollars, by the cache', 'bars',
            format.money, format.moneyExact),
        latency: make('latency', 'Latency', 'whole answer', 'line',
            format.millis),
        ttft: make('ttft', 'Time to first token', 'streams', 'line',
            format.millis),
        hits: make('hits', 'Hit ratio', 'of requests', 'line',
            format.percent, null, 1),
        errors: make('errors', 'Error ratio', 'of requests', 'line',
            format.percent, null, 0.05),
    };
}


function buildSums() {
    const number = (name, of, shown = format.exact, exact = shown) => ({
        name, class: 'number', cell: (td, item) => {
            title(text(td, shown(of(item.sums))), exact(of(item.sums)));
            td.dataset.value = of(item.sums) ?? '';
        },
    });

    return table($('sums'), 'Sums by group', [
        { name: 'Name', cell: (th, item) => {
            if (!th.firstChild) {
                th.append(el('bdi'));
            }

            title(text(th.firstChild, item.name), item.name);
            th.parentElement.classList.toggle('total', item.total);
        } },
        number('Requests', (s) => s.requests),
        number('Errors', (s) => s.errors),
        number('Hits', (s) => s.cache_hits),
        number('Hit ratio', (s) => ratio(s.cache_hits, s.requests),
            format.percent),
        number('Prompt', (s) => s.prompt_tokens),
        number('Cached', (s) => s.cached_tokens),
        number('Answer', (s) => s.completion_tokens),
        number('Reasoning', (s) => s.reasoning_tokens),
        number('Money', (s) => s.usd, format.money, format.moneyExact),
        number('Saved', (s) => s.saved_usd, format.money,
            format.moneyExact),
        number('Unpriced', (s) => s.unpriced),
    ]);
}


function wanted() {
    const form = $('usage-form');
    const range = RANGES[form.elements.range.value];
    const now = Math.floor(Date.now() / 1000);
    const end = (Math.floor(now / range.step) + 1) * range.step;

    return { ...range, by: form.elements.by.value, end,
             from: end - range.span, utc: range.period === 'day',
             team: $('usage-team').value, model: $('usage-model').value };
}


// Rows of one group_by; with too many of them for one answer, without.

async function rows(want) {
    const query = { period: want.period, from: want.from,
                    group_by: want.by, team: want.team, model: want.model };

    try {
        return { ...await get('usage', query), grouped: true };

    } catch (error) {
        if (error.code !== 'too_many_rows') {
            throw error;
        }

        delete query.group_by;
        return { ...await get('usage', query), grouped: false };
    }
}


function groupOf(row, want, grouped) {
    return grouped ? row[want.by] ?? NO_TEAM : 'all';
}


// { x, of(take) }: the buckets' starts, and for a number of a row the series
// of the largest groups, the rest as one

function series(usage, want) {
    const x = [];

    for (let s = want.from; s < want.end; s += want.step) {
        x.push(s);
    }

    const groups = new Map();
    const at = (row) => Math.round((Date.parse(row.start) / 1000 - want.from)
                                   / want.step);

    for (const row of usage.data) {
        const name = groupOf(row, want, usage.grouped);
        const i = at(row);

        if (i >= 0 && i < x.length) {
            const list = groups.get(name) ?? [];
            list.push([i, row]);
            groups.set(name, list);
        }
    }

    // one order for all charts, so that a group has one colour
    const weight = new Map([...groups].map(([name, list]) => [name,
        list.reduce((sum, [, row]) => sum + row.usd + row.requests * 1e-6,
                    0)]));
    const order = [...groups].sort(([a], [b]) =>
        weight.get(b) - weight.get(a) || (a < b ? -1 : 1));

    function of(take, shown) {
        const all = order.map(([name, list]) => {
            const values = x.map(() => 0);
            let sum = 0;

            for (const [i, row] of list) {
                values[i] += take(row);
                sum += take(row);
            }

            return { name, values, sum };
        });

        const first = all.slice(0, all.length > SHOWN + 1 ? SHOWN : SHOWN + 1);
        const rest = all.slice(first.length);

        if (rest.length) {
            first.push({ name: `${rest.length} others`,
                values: x.map((_, i) => rest.reduce((sum, one) =>
                    sum + one.values[i], 0)),
                sum: rest.reduce((sum, one) => sum + one.sum, 0) });
        }

        return first.map((one) => ({ ...one, total: shown(one.sum) }));
    }

    function ratioOf(part, name, total) {
        const parts = x.map(() => 0);
        const whole = x.map(() => 0);

        for (const list of groups.values()) {
            for (const [i, row] of list) {
                parts[i] += row[part];
                whole[i] += row.requests;
            }
        }

        return [{ name, total, values: x.map((_, i) =>
            ratio(parts[i], whole[i])) }];
    }

    return { x, of, ratioOf };
}


function drawCounts(usage, want) {
    const { x, of, ratioOf } = series(usage, want);
    const total = usage.total;
    const base = { x, end: want.end, utc: want.utc };
    const empty = total.requests > 0 ? null
        : `No requests in ${want.said}. They appear here within seconds of `
          + 'the first one.';
    const hits = format.percent(ratio(total.cache_hits, total.requests));
    const errors = format.percent(ratio(total.errors, total.requests));

    charts.requests.set({ ...base, empty, unit: `per ${want.period}`,
        sum: format.short(total.requests),
        series: of((row) => row.requests, format.short) });
    charts.tokens.set({ ...base, empty, sum: format.short(tokens(total)),
        series: of(tokens, format.short) });
    charts.money.set({ ...base, empty, sum: format.money(total.usd),
        series: of((row) => row.usd, format.money) });
    charts.saved.set({ ...base, empty, sum: format.money(total.saved_usd),
        series: of((row) => row.saved_usd, format.money) });
    charts.hits.set({ ...base, empty, sum: hits,
        series: ratioOf('cache_hits', 'hits', hits) });
    charts.errors.set({ ...base, empty, sum: errors,
        series: ratioOf('errors', 'errors', errors) });
}


function drawTiles(total) {
    const all = tokens(total);

    facts($('usage-tiles'), [
        ['Requests', format.short(total.requests),
         format.exact(total.requests), total.requests],
        ['Tokens', format.short(all), format.exact(all), all],
        ['Money', format.money(total.usd), format.moneyExact(total.usd),
         total.usd],
        ['Saved by the cache', format.money(total.saved_usd),
         format.moneyExact(total.saved_usd), total.saved_usd],
        ['Hit ratio', format.percent(ratio(total.cache_hits, total.requests)),
         `${format.exact(total.cache_hits)} of `
         + `${format.exact(total.requests)} requests`, total.cache_hits],
        ['Errors', format.percent(ratio(total.errors, total.requests)),
         `${format.exact(total.errors)} of `
         + `${format.exact(total.requests)} requests`, total.errors],
    ]);
}


function drawSums(groups, want) {
    const items = groups.data.map((row) => ({
        name: row[want.by] ?? NO_TEAM, key: 'g' + row[want.by], sums: row,
        total: false }));

    items.sort((a, b) => b.sums.usd - a.sums.usd
               || b.sums.requests - a.sums.requests
               || (a.name < b.name ? -1 : 1));
    items.push({ name: 'Total', key: 'total', sums: groups.total,
                 total: true });
    showSums(items, (item) => item.key);
}


async function latency(want) {
    const period = want.period === 'day' ? 'hour' : want.period;
    const step = period === 'hour' ? 3600 : 60;
    let answer;

    try {
        answer = await get('latency', { period, from: want.from,
                                        model: want.model });
    } catch (error) {
        const empty = error.status === 404
            ? 'This gateway keeps no history of latencies.' : error.message;

        charts.latency.set({ empty });
        charts.ttft.set({ empty });
        return;
    }

    const x = [];
    const rowAt = new Map(answer.data.map((row) =>
        [Math.round(Date.parse(row.start) / 1000), row]));

    for (let s = want.from; s < want.end; s += step) {
        x.push(s);
    }

    for (const [chart, member] of [[charts.latency, 'latency_ms'],
                                   [charts.ttft, 'ttft_ms']]) {
        const measured = answer.data.some((row) =>
            (row[member]?.p50 ?? null) !== null);
        const last = (values) => format.millis(
            values.findLast((v) => v !== null) ?? null);

        chart.set({ x, end: want.end, utc: want.utc,
            sum: measured ? 'latest' : '',
            empty: measured ? null : `Nothing measured in ${want.said}.`,
            series: ['p50', 'p95', 'p99'].map((p) => {
                const values = x.map((s) =>
                    rowAt.get(s)?.[member]?.[p] ?? null);

                return { name: p, values, total: last(values) };
            }) });
    }
}


async function names() {
    const want = wanted();
    const of = async (by) => (await get('usage', { period: want.period,
        from: want.from, group_by: by, buckets: 'false' })).data
        .map((row) => row[by]).filter((name) => name !== null).sort();
    const [teams, models] = await Promise.all([of('team'), of('model')]);

    options($('usage-team'), teams, 'All');
    options($('usage-model'), models, 'All');
}


async function refresh() {
    const want = wanted();
    const mine = ++generation;

    try {
        const [usage, groups] = await Promise.all([rows(want),
            get('usage', { period: want.period, from: want.from,
                           group_by: want.by, buckets: 'false',
                           team: want.team, model: want.model }),
            latency(want), names()]);

        if (mine !== generation) {
            return;
        }

        text($('usage-note'), note(usage, want));
        drawTiles(groups.total);
        drawCounts(usage, want);
        drawSums(groups, want);
        $('view-usage').dataset.shown = `${want.period} ${want.by}`;

    } catch (error) {
        if (error.status > 0 && error.status !== 401) {
            text($('usage-note'), error.message);
        } else if (error.status === undefined) {
            throw error;
        }
    }
}


function note(usage, want) {
    const said = [];

    if (!usage.fleet) {
        said.push('Numbers of this gateway alone.');
    }

    if (want.utc) {
        said.push('Days are UTC.');
    }

    if (usage.truncated) {
        said.push('Older numbers are not kept: the range is not complete.');
    }

    if (!usage.grouped) {
        said.push('Too many groups to draw: the charts show all as one.');
    }

    return said.join(' ');
}


export function init() {
    buildCharts();
    showSums = buildSums();
    $('usage-form').addEventListener('change', () => poll.now());
    $('usage-form').addEventListener('submit', (e) => e.preventDefault());
    signals.addEventListener('reachable', () => poll.now());
}

export const view = { start: () => poll.start(), stop: () => poll.stop() };
