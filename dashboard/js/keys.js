// The view "Keys": finding them; key.js has what can be done with one.

import { get, name, signals } from './api.js';
import { $, el, options, refused, show, table, text, title } from './dom.js';
import * as format from './format.js';
import { create, manage } from './key.js';
import { Poll } from './poll.js';
import { list } from './teams.js';

const PAGE = 200;
const poll = new Poll(15000, refresh);

let showKeys = null;
let pages = 1;
let loaded = [];
let more = false;
let looked = null;


export function stateOf(key) {
    if (key.shadowed) {
        return ['hidden by the file', 'warn'];
    }

    if (key.enabled === false) {
        return ['disabled', 'bad'];
    }

    if (key.expires && Date.parse(key.expires) <= Date.now()) {
        return ['expired', 'bad'];
    }

    return key.rotation ? ['rotating', 'warn'] : ['active', 'ok'];
}


function build() {
    const limit = (label, member) => ({ name: label, class: 'number',
        cell: (td, key) => {
            const value = key.effective?.[member] ?? null;
            const raised = (key.raises ?? []).find((r) => r.limit === member);

            text(td, format.short(value) + (raised ? ' ↑' : ''));
            title(td, raised ? `${format.exact(value)}, raised until `
                + format.utc(new Date(raised.until)) : format.exact(value));
        } });

    return table($('keys'), 'Keys', [
        { name: 'Name', cell: (th, key) => {
            if (!th.firstChild) {
                th.append(el('bdi'));
            }

            title(text(th.firstChild, key.name), key.name);
        } },
        { name: 'Team', cell: (td, key) => {
            if (!td.firstChild) {
                td.append(el('bdi'));
            }

            title(text(td.firstChild, key.team ?? format.NONE),
                key.team ?? '');
        } },
        { name: 'State', cell: (td, key) => {
            if (!td.firstChild) {
                td.append(el('span', { class: 'badge' }));
            }

            const [said, level] = stateOf(key);

            text(td.firstChild, said);
            td.firstChild.dataset.level = level;
        } },
        { name: 'Secret', class: 'code', cell: (td, key) => text(td,
            key.hint ?? (key.source === 'file' ? 'in the file'
                : format.NONE)) },
        limit('Requests/min', 'requests_per_minute'),
        limit('Tokens/min', 'tokens_per_minute'),
        limit('At once', 'concurrency'),
        { name: 'Budget', class: 'number', cell: (td, key) => {
            const b = key.effective?.budget ?? null;

            text(td, b ? `${format.money(b.usd)} a ${b.period}`
                : format.NONE);
        } },
        { name: 'Expires', class: 'number', cell: (td, key) =>
            format.time(td, key.expires, 'never') },
        { name: 'Manage', silent: true, cell: (td, key) => {
            td.item = key;

            if (!td.firstChild) {
                td.append(el('button', { type: 'button', onclick: () =>
                    act(() => manage(td.item)) }, 'Manage',
                    el('span', { class: 'visually-hidden' }, ' ',
                        el('bdi', {}, key.name))));
            }
        } },
    ]);
}


// what a dialog did is to be seen at once

async function act(run) {
    await run();
    await poll.now();
}


function draw() {
    const wanted = $('keys-filter').value.trim().toLowerCase();
    let found = loaded.filter((key) =>
        key.name.toLowerCase().includes(wanted));

    if (found.length === 0 && looked && looked.name.toLowerCase() === wanted) {
        found = [looked];
    }

    showKeys(found, (key) => `${key.source} ${key.name}`);
    show($('keys'), found.length > 0);
    show($('keys-more'), more);
    say(found.length, wanted);
}


function say(found, wanted) {
    const note = $('keys-note');
    const filtered = wanted || $('keys-team').value || $('keys-source').value;
    let said = '';

    if (found === 0) {
        said = !filtered
            ? 'There are no keys yet. "Create a key" makes the first one.'
            : more && wanted
                ? `None of the first ${loaded.length}. Enter looks for a key `
                  + 'of exactly this name.'
                : 'No key is like that.';

    } else if (more) {
        said = `The first ${format.exact(loaded.length)} keys.`;
    }

    text(note, said);
    show(note, said !== '');
}


async function refresh() {
    try {
        const result = await list('keys', { limit: PAGE,
            team: $('keys-team').value, source: $('keys-source').value },
            pages);

        loaded = result.found;
        more = result.more;
        draw();

        const teams = await list('teams', { limit: 1000 }, 1);

        options($('keys-team'), teams.found.map((team) => team.name).sort(),
            'All');

    } catch (error) {
        refused(error, $('keys-note'));
    }
}


async function lookUp() {
    const wanted = $('keys-filter').value.trim();

    if (wanted === '') {
        return;
    }

    try {
        looked = await get(`keys/${name(wanted)}`);
        draw();

    } catch (error) {
        text($('keys-note'), error.message);
        show($('keys-note'), true);
    }
}


export function init() {
    showKeys = build();

    $('keys-filter').addEventListener('input', draw);
    $('keys-form').addEventListener('submit', (e) => {
        e.preventDefault();
        lookUp();
    });

    for (const id of ['keys-team', 'keys-source']) {
        $(id).addEventListener('change', () => {
            pages = 1;
            poll.now();
        });
    }

    $('keys-more').addEventListener('click', () => {
        pages++;
        poll.now();
    });
    $('key-create').addEventListener('click', () => act(create));
    signals.addEventListener('reachable', () => poll.now());
}

export const view = { start: () => poll.start(), stop: () => poll.stop() };
