// The view "Teams": what they used, and how far their budgets go.

import { get, signals } from './api.js';
import { $, bar, el, refused, show, table, text, title } from './dom.js';
import * as format from './format.js';
import { Poll } from './poll.js';

const poll = new Poll(15000, refresh);
const PAGE = 200;

let showTeams = null;
let pages = 1;


export function level(spend) {
    return spend.ratio >= 1 ? 'bad' : spend.ratio >= 0.8 ? 'warn' : '';
}


function budget(td, team) {
    if (!td.firstChild) {
        td.append(el('span', { class: 'number' }), ' ',
            el('span', { class: 'badge' }));
    }

    const spend = team.spend;
    const [said, badge] = td.children;

    if (!spend) {
        text(said, 'no budget');
        title(said, '');
        badge.hidden = true;
        bar(td, null);
        return;
    }

    const words = `${format.money(spend.usd)} of `
        + `${format.money(spend.budget_usd)} a ${spend.period}`;
    const at = level(spend);

    text(said, words);
    title(said, `${format.moneyExact(spend.usd)} of `
        + format.moneyExact(spend.budget_usd));
    badge.hidden = false;
    badge.dataset.level = at;
    text(badge, (at === 'bad' ? '▲ spent, ' : at === 'warn' ? '● ' : '')
        + format.percent(spend.ratio));
    bar(td, spend.ratio, `${words}, ${format.percent(spend.ratio)}`,
        at || 'ok');
}


function forecast(td, team) {
    const spend = team.spend;

    if (!td.firstChild) {
        td.append(el('span', { class: 'number' }), ' ',
            el('span', { class: 'note' }));
    }

    const [said, note] = td.children;

    if (!spend) {
        text(said, format.NONE);
        text(note, '');
        title(note, '');
        return;
    }

    const over = spend.forecast_usd !== null
        && spend.forecast_usd > spend.budget_usd;
    const ends = spend.exhausted ?? null;
    const when = new Date(ends ?? spend.resets);

    text(said, format.money(spend.forecast_usd));
    title(said, format.moneyExact(spend.forecast_usd));
    text(note, ends === null ? `until ${format.moment(when)}`
        : when <= new Date() ? 'spent'
            : `spent by ${format.moment(when)}`);
    title(note, format.utc(when));
    note.dataset.level = over ? 'warn' : '';
}


function build() {
    const number = (name, of, shown, exact) => ({ name, class: 'number',
        cell: (td, team) => {
            title(text(td, shown(of(team))), exact(of(team)));
            td.dataset.value = of(team) ?? '';
        } });
    const tokens = (sums) => sums
        ? sums.prompt_tokens + sums.completion_tokens : null;

    return table($('teams'), 'Teams, what they used, and their budgets', [
        { name: 'Team', cell: (th, team) => {
            if (!th.firstChild) {
                th.append(el('bdi'), ' ', el('span', { class: 'note' }));
            }

            title(text(th.firstChild, team.name), team.name);
            text(th.lastChild, team.shadowed ? 'hidden by the file'
                : team.source === 'file' ? 'file' : '');
        } },
        number('Keys', (t) => t.keys, format.exact, format.exact),
        number('Requests today', (t) => t.day?.requests, format.short,
            format.exact),
        number('Tokens today', (t) => tokens(t.day), format.short,
            format.exact),
        number('Money today', (t) => t.day?.usd, format.money,
            format.moneyExact),
        number('Money this month', (t) => t.month?.usd, format.money,
            format.moneyExact),
        { name: 'Budget', class: 'meter', cell: budget },
        { name: 'Forecast', cell: forecast },
    ]);
}


// the pages that were asked for, and whether there is another

export async function list(path, query, count) {
    const found = [];
    let after = null;
    let more = true;

    for (let i = 0; i < count && more; i++) {
        const page = await get(path, { ...query, after });

        found.push(...page.data);
        after = page.next;
        more = page.has_more;
    }

    return { found, more };
}


async function refresh() {
    const note = $('teams-note');

    try {
        const { found, more } = await list('teams', { limit: PAGE }, pages);
        const urgency = (team) => team.spend?.ratio ?? -1;

        found.sort((a, b) => urgency(b) - urgency(a)
                   || (a.name < b.name ? -1 : 1));
        showTeams(found, (team) => `${team.source} ${team.name}`);
        show($('teams'), found.length > 0);
        show($('teams-more'), more);
        text(note, 'There are no teams. They are made in the tenants file, or '
            + 'by "llmctl team".');
        show(note, found.length === 0);

    } catch (error) {
        refused(error, note);
    }
}


export function init() {
    showTeams = build();
    $('teams-more').addEventListener('click', () => {
        pages++;
        poll.now();
    });
    signals.addEventListener('reachable', () => poll.now());
}

export const view = { start: () => poll.start(), stop: () => poll.stop() };
