// The view "Live": what runs and waits now, the targets, the cache.

import { call, get, signals } from './api.js';
import { dialog } from './dialogs.js';
import { $, bar, el, facts, named, refused, show, table, text, title, toast }
    from './dom.js';
import * as format from './format.js';
import { Poll } from './poll.js';
import * as status from './status.js';

const poll = new Poll(2000, refresh);

const STATES = {
    closed: { mark: '●', said: 'closed', level: 'ok' },
    half_open: { mark: '◐', said: 'half open', level: 'warn' },
    open: { mark: '▲', said: 'open', level: 'bad' },
};

let showSlots = null;
let showTargets = null;


function number(name, of, shown = format.exact) {
    return { name, class: 'number', cell: (td, item) => {
        text(td, shown(of(item)));
    } };
}


function buildSlots() {
    return table($('slots'), 'Slots in use and requests waiting', [
        { name: 'Name', cell: (th, item) => named(th, item.name) },
        { name: 'Kind', cell: (td, item) => text(td, item.kind) },
        { name: 'In use', class: 'meter', cell: (td, item) => {
            if (!td.firstChild) {
                td.append(el('span', { class: 'number' }));
            }

            const limit = item.concurrency ?? null;
            const said = limit === null ? `${item.in_use}, no limit`
                : `${item.in_use} of ${limit}`;

            text(td.firstChild, said);
            bar(td, limit === null ? null : item.in_use / limit, said,
                limit !== null && item.in_use >= limit ? 'warn' : '');
        } },
        number('Waiting', (item) => item.waiting),
    ]);
}


function left(bucket) {
    return bucket ? `${format.short(bucket.remaining)} of `
        + format.short(bucket.limit) : format.NONE;
}


function buildTargets() {
    const pair = (item) => item.first_ms && item.first_ms.p50 !== null
        ? `${format.millis(item.first_ms.p50)} / `
          + format.millis(item.first_ms.p95) : format.NONE;

    return table($('targets'), 'Targets and their breakers', [
        { name: 'Target', cell: (th, item) => named(th, item.name) },
        { name: 'Breaker', cell: breaker },
        { name: 'Running', class: 'number', cell: (td, item) => text(td,
            item.most === null || item.most === undefined
                ? format.exact(item.running)
                : `${item.running} of ${item.most}`) },
        number('First byte p50 / p95', pair, (said) => said),
        number('Requests left', (item) => left(item.requests), (said) => said),
        number('Tokens left', (item) => left(item.tokens), (said) => said),
        number('Retries', (item) => item.retries),
        number('Denied', (item) => item.denied),
        number('Opened', (item) => item.ejections),
        number('Cooled', (item) => item.cooled),
        number('Paced', (item) => item.paced),
        { name: 'Reset', silent: true, cell: (td, item) => {
            if (!td.firstChild) {
                td.append(el('button', { type: 'button', onclick: () =>
                    reset({ name: item.name }) }, 'Reset',
                    el('span', { class: 'visually-hidden' }, ' ',
                        el('bdi', {}, item.name))));
            }

            td.firstChild.disabled = item.state === 'closed'
                && !item.cooling_until;
        } },
    ]);
}


function breaker(td, item) {
    const state = STATES[item.state]
        ?? { mark: '?', said: item.state, level: '' };

    if (!td.firstChild) {
        td.append(el('span', { class: 'badge' }), ' ',
            el('span', { class: 'note' }));
    }

    const [badge, note] = td.children;
    const until = item.until ?? item.cooling_until;
    const cooling = !item.until && item.cooling_until;

    badge.dataset.level = cooling && state.level === 'ok' ? 'warn'
        : state.level;
    text(badge, `${state.mark} ${cooling && state.level === 'ok'
        ? 'cooling' : state.said}`);
    text(note, until ? `for ${format.span((Date.parse(until) - Date.now())
                                         / 1000)}` : '');
    title(note, until ? `until ${format.utc(new Date(until))}` : '');
}


async function reset(what) {
    try {
        const answer = await call('POST', 'breakers/reset', { body: what });

        toast(answer.reset === 1 ? '1 breaker was reset.'
            : `${answer.reset} breakers were reset.`);
        poll.now();

    } catch (error) {
        toast(error.message);
    }
}


function drawStatus(now) {
    const minute = now.minute ?? {};
    const cache = now.cache;
    const tokens = (sums) => sums
        ? (sums.prompt_tokens ?? 0) + (sums.completion_tokens ?? 0) : null;

    facts($('live-tiles'), [
        ['Running', format.exact(now.requests.running), '',
         now.requests.running],
        ['Waiting', format.exact(now.requests.waiting), '',
         now.requests.waiting],
        ['Requests, last minute', format.short(minute.requests),
         format.exact(minute.requests), minute.requests],
        ['Tokens, last minute', format.short(tokens(minute)),
         format.exact(tokens(minute)), tokens(minute)],
        ['Money today (UTC)', format.money(now.day?.usd),
         format.moneyExact(now.day?.usd), now.day?.usd],
        ['Money this month', format.money(now.month?.usd),
         format.moneyExact(now.month?.usd), now.month?.usd],
    ]);

    if (!cache) {
        facts($('cache-facts'), [['Cache', 'off']]);
        return;
    }

    const served = cache.hits + (cache.joined ?? 0) + (cache.stale ?? 0);
    const asked = served + cache.misses;

    facts($('cache-facts'), [
        ['Hit ratio', asked > 0 ? format.percent(served / asked) : format.NONE,
         'hits, joined and stale answers, of all that were looked for'],
        ['Hits', format.short(cache.hits), format.exact(cache.hits)],
        ['Joined', format.short(cache.joined), format.exact(cache.joined)],
        ['Stale', format.short(cache.stale), format.exact(cache.stale)],
        ['Misses', format.short(cache.misses), format.exact(cache.misses)],
        ['Bypassed', format.short(cache.bypassed),
         format.exact(cache.bypassed)],
        ['Saved', format.money(cache.saved_usd),
         format.moneyExact(cache.saved_usd)],
        ['Saved tokens', format.short(cache.saved_tokens),
         format.exact(cache.saved_tokens)],
        ['Answers', format.short(cache.entries), format.exact(cache.entries)],
        ['Memory', `${format.bytes(cache.bytes)} of `
         + format.bytes(cache.size_bytes), `${format.exact(cache.bytes)} of `
         + `${format.exact(cache.size_bytes)} bytes`],
    ]);
}


// a part that cannot be had says why, and the others go on

async function part(path, note, draw, empty) {
    try {
        const { data } = await get(path);

        draw(data);
        text(note, empty);
        show(note, data.length === 0);

    } catch (error) {
        refused(error, note);
    }
}


async function refresh() {
    await Promise.all([
        part('slots', $('slots-note'), (list) => {
            show($('slots'), list.length > 0);
            showSlots(list, (item) => `${item.kind} ${item.name}`);
        }, 'Nothing runs or waits at the moment.'),
        part('breakers', $('targets-note'), (list) => {
            show($('targets'), list.length > 0);
            showTargets(list, (item) => 't' + item.name);
            $('reset-all').disabled = !list.some((item) =>
                item.state !== 'closed' || item.cooling_until);
        }, 'No target was asked yet. They appear with the first request.'),
        status.now(),
    ]);
}


async function purge() {
    const which = $('purge-class').value;
    const name = $('purge-name').value.trim();
    const body = which === 'all' ? { all: true } : { [which]: name };

    if (which !== 'all' && name === '') {
        $('purge-name').focus();
        toast('Whose answers? Please enter a name.');
        return;
    }

    await dialog({
        title: which === 'all' ? 'Purge the whole cache?'
            : `Purge ${which} `, name: which === 'all' ? undefined : name,
        fields: [el('p', {}, 'These answers are not served any more; the next '
            + 'requests ask the provider again and cost money.')],
        buttons: [{ text: 'Purge', class: 'danger', action: 'purge',
            run: async () => {
                const answer = await call('POST', 'cache/purge', { body });

                toast(answer.purged.class === 'all' ? 'Everything was purged'
                    + (answer.fleet ? ', on all gateways.' : '.')
                    : 'Purged' + (answer.fleet ? ' on all gateways.' : '.'));
                $('purge-name').value = '';
            } }],
    });
}


export function init() {
    showSlots = buildSlots();
    showTargets = buildTargets();
    status.onChange(drawStatus);

    $('reset-all').addEventListener('click', () => reset({ all: true }));
    $('purge').addEventListener('submit', (e) => {
        e.preventDefault();
        purge();
    });
    $('purge-class').addEventListener('change', () => {
        show($('purge-name-label'), $('purge-class').value !== 'all');
    });
    signals.addEventListener('reachable', () => poll.now());
}

export const view = { start: () => poll.start(), stop: () => poll.stop() };
