// What can be done with a key: each thing is a dialog.

import { call, get, name as encode } from './api.js';
import { dialog, secret } from './dialogs.js';
import { el, toast } from './dom.js';
import * as format from './format.js';

const LIMITS = [
    ['requests_per_minute', 'Requests per minute'],
    ['tokens_per_minute', 'Tokens per minute'],
    ['requests_per_day', 'Requests per day'],
    ['tokens_per_day', 'Tokens per day'],
    ['concurrency', 'Requests at once'],
];

const PERIODS = [['month', 'a month'], ['day', 'a day']];
const path = (key) => `keys/${encode(key.name)}`;


class Wrong extends Error {
    constructor(message, param) {
        super(message);
        this.param = param;
    }
}


function whole(values, member) {
    const string = (values[member] ?? '').trim();

    if (string === '') {
        return undefined;
    }

    if (!/^[1-9][0-9]{0,15}$/.test(string)) {
        throw new Wrong('Please enter a whole number above 0.', member);
    }

    return Number(string);
}


function dollars(values, member) {
    const string = (values[member] ?? '').trim();

    if (string === '') {
        return undefined;
    }

    if (!/^[0-9]+(\.[0-9]{1,6})?$/.test(string) || !(Number(string) > 0)) {
        throw new Wrong('Please enter dollars, as in 12.50.', member);
    }

    return Number(string);
}


// of an input of date and time, which is local

function when(values, member) {
    if (!values[member]) {
        return undefined;
    }

    const date = new Date(values[member]);

    if (Number.isNaN(date.getTime()) || date <= new Date()) {
        throw new Wrong('Please choose a time to come.', member);
    }

    return date.toISOString().replace(/\.\d+Z$/, 'Z');
}


function local(date) {
    const shifted = new Date(date - date.getTimezoneOffset() * 60000);

    return shifted.toISOString().slice(0, 16);
}


function streams() {
    return { name: 'streams', label: 'Its running streams', options: [
        ['finish', 'end by themselves'], ['cut', 'are cut off now']] };
}


export async function create() {
    let teams = [];

    try {
        teams = (await get('teams', { limit: 1000 })).data.map((t) => t.name);
    } catch {
        // the field is then without names to choose from
    }

    const made = await dialog({
        title: 'Create a key', wide: true,
        fields: [
            { name: 'name', label: 'Name', required: true, maxlength: 64,
              pattern: '[A-Za-z0-9][A-Za-z0-9._@\\-]{0,63}',
              title: 'letters, digits and . _ @ -',
              hint: 'Letters, digits and . _ @ -' },
            { name: 'team', label: 'Team', options: [['', 'none'],
                ...teams.sort().map((team) => [team, team])] },
            ...LIMITS.map(([member, label]) => ({ name: member, label,
                inputmode: 'numeric', placeholder: 'as the defaults say' })),
            { name: 'budget', label: 'Budget, US dollars',
              inputmode: 'decimal', placeholder: 'as the defaults say' },
            { name: 'period', label: 'Budget for', options: PERIODS },
            { name: 'models', label: 'Models', placeholder: 'all',
              hint: 'Names or patterns, with commas: gpt-4o*, o3' },
            { name: 'expires', label: 'Expires', type: 'datetime-local' },
        ],
        buttons: [{ text: 'Create', class: 'primary', action: 'create',
            run: (values) => call('POST', 'keys', { body: toKey(values) }) }],
    });

    if (made) {
        await secret('New key ', made.name, made.secret);
    }
}


function toKey(values) {
    const key = { name: values.name.trim() };
    const usd = dollars(values, 'budget');
    const models = values.models.split(',').map((m) => m.trim())
        .filter((m) => m !== '');

    if (values.team) {
        key.team = values.team;
    }

    for (const [member] of LIMITS) {
        key[member] = whole(values, member);
    }

    if (usd !== undefined) {
        key.budget = { usd, period: values.period };
    }

    if (models.length) {
        key.models = models;
    }

    key.expires = when(values, 'expires');
    return key;
}


function lines(key) {
    const of = key.effective ?? {};
    const said = LIMITS.map(([member, label]) =>
        [label, of[member] == null ? 'no limit' : format.exact(of[member])]);

    said.unshift(['Team', key.team ?? 'none']);
    said.push(['Budget', of.budget ? `${format.money(of.budget.usd)} a `
        + of.budget.period : 'none']);
    said.push(['Models', key.models ? key.models.join(', ') : 'all']);

    for (const raise of key.raises ?? []) {
        const value = typeof raise.value === 'object' ? raise.value?.usd
            : raise.value;

        said.push(['Raised', `${raise.limit.replaceAll('_', ' ')}: `
            + `${format.exact(value)} until `
            + format.moment(new Date(raise.until))]);
    }

    if (key.rotation) {
        said.push(['Old secret', 'works until '
            + format.moment(new Date(key.rotation.until))]);
    }

    if (key.created) {
        said.push(['Created', format.moment(new Date(key.created))]);
    }

    for (const [name, value] of Object.entries(key.metadata ?? {})) {
        said.push([name, value]);
    }

    return said;
}


async function used(key) {
    try {
        const { total } = await get('usage', { period: 'day', key: key.name,
                                               buckets: 'false' });

        return [['Last 31 days', `${format.exact(total.requests)} requests, `
            + `${format.short(total.prompt_tokens + total.completion_tokens)} `
            + `tokens, ${format.money(total.usd)}`]];

    } catch {
        return [];
    }
}


// a dialog that only chooses; what was chosen is its result

export async function manage(key) {
    const facts = [...lines(key), ...await used(key)];
    const file = key.source === 'file';
    const choose = (text, run, style) => ({ text, class: style,
        action: text.toLowerCase(), submit: false, run: async () => run });
    const buttons = file ? [] : [
        key.enabled === false ? choose('Enable', enable)
            : choose('Disable', disable),
        choose('Rotate', rotate), choose('Raise', raise),
        ...(key.raises ?? []).length ? [choose('Lower', lower)] : [],
        choose('Delete', remove, 'danger'),
    ];

    const next = await dialog({
        title: 'Key ', name: key.name, wide: true, cancel: 'Close', buttons,
        fields: [
            el('dl', { class: 'facts' }, facts.map(([term, value]) =>
                el('div', {}, el('dt', {}, el('bdi', {}, term)),
                    el('dd', {}, el('bdi', {}, value))))),
            file ? el('p', { class: 'note' }, 'This key is of the tenants '
                + 'file: it is changed there.') : null,
        ].filter((f) => f !== null),
    });

    await next?.(key);
}


async function enable(key) {
    try {
        await call('PATCH', path(key), { body: { enabled: true } });
        toast(`Key ${key.name} works again.`);

    } catch (error) {
        toast(error.message);
    }
}


function disable(key) {
    return dialog({
        title: 'Disable ', name: key.name,
        fields: [el('p', {}, 'Requests with this key are refused from now on, '
            + 'until it is enabled again.'), streams()],
        buttons: [{ text: 'Disable', class: 'danger', action: 'confirm',
            run: async (values) => {
                await call('PATCH', path(key), { query: values,
                                                 body: { enabled: false } });
                toast(`Key ${key.name} is disabled.`);
            } }],
    });
}


function remove(key) {
    return dialog({
        title: 'Delete ', name: key.name,
        fields: [el('p', {}, 'The key is gone for good; what it used stays in '
            + 'the books.'), streams()],
        buttons: [{ text: 'Delete', class: 'danger', action: 'confirm',
            run: async (values) => {
                await call('DELETE', path(key), { query: values });
                toast(`Key ${key.name} is deleted.`);
            } }],
    });
}


async function rotate(key) {
    const made = await dialog({
        title: 'New secret for ', name: key.name,
        fields: [{ name: 'grace_s', label: 'The old secret works',
            value: '86400', options: [['0', 'no longer'],
                ['3600', 'for an hour'], ['86400', 'for a day'],
                ['604800', 'for a week'], ['2592000', 'for 30 days']] }],
        buttons: [{ text: 'Rotate', class: 'primary', action: 'confirm',
            run: (values) => call('POST', `${path(key)}/rotate`,
                { body: { grace_s: Number(values.grace_s) } }) }],
    });

    if (made) {
        await secret('New secret of ', key.name, made.secret);
    }
}


function raise(key) {
    return dialog({
        title: 'Raise a limit of ', name: key.name,
        fields: [
            { name: 'limit', label: 'Limit', options: [...LIMITS,
                ['budget', 'Budget, US dollars']] },
            { name: 'value', label: 'To', inputmode: 'decimal',
              required: true },
            { name: 'until', label: 'Until', type: 'datetime-local',
              required: true, value: local(new Date(Date.now() + 864e5)) },
        ],
        buttons: [{ text: 'Raise', class: 'primary', action: 'confirm',
            run: async (values) => {
                const value = values.limit === 'budget'
                    ? { usd: dollars(values, 'value'),
                        period: key.effective?.budget?.period ?? 'month' }
                    : whole(values, 'value');

                await call('POST', `${path(key)}/raise`, { body: {
                    [values.limit]: value, until: when(values, 'until') } });
                toast(`A limit of ${key.name} is raised.`);
            } }],
    });
}


async function lower(key) {
    try {
        await call('DELETE', `${path(key)}/raise`);
        toast(`The limits of ${key.name} are what they were.`);

    } catch (error) {
        toast(error.message);
    }
}
