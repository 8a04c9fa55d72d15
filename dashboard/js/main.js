// Sign-in, views, colours, and the word that the gateway is away.

import { call, keep, signals, signedIn } from './api.js';
import { recolour } from './charts.js';
import { $, show, text } from './dom.js';
import * as format from './format.js';
import * as keys from './keys.js';
import * as live from './live.js';
import { refresh } from './poll.js';
import * as status from './status.js';
import * as tasks from './tasks.js';
import * as teams from './teams.js';
import * as usage from './usage.js';

const VIEWS = { usage, live, tasks, teams, keys };
let shown = null;


function choose() {
    const name = location.hash.slice(1);

    return Object.hasOwn(VIEWS, name) ? name : 'usage';
}


function showView() {
    if (!signedIn()) {
        return;
    }

    const name = choose();

    if (name === shown) {
        return;
    }

    if (shown !== null) {
        VIEWS[shown].view.stop();
    }

    shown = name;

    for (const other of Object.keys(VIEWS)) {
        show($(`view-${other}`), other === name);
    }

    for (const link of $('nav').children) {
        if (link.hash === `#${name}`) {
            link.setAttribute('aria-current', 'page');
        } else {
            link.removeAttribute('aria-current');
        }
    }

    document.title = `${$(`h-${name}`).textContent} – ngx-llm`;
    VIEWS[name].view.start();
}


function open() {
    show($('sign-in'), false);
    show($('nav'), true);
    show($('sign-out'), true);
    show($('status'), true);
    status.line.start();
    showView();
}


function close(message) {
    keep(null);
    status.line.stop();

    if (shown !== null) {
        VIEWS[shown].view.stop();
        show($(`view-${shown}`), false);
        shown = null;
    }

    for (const box of document.querySelectorAll('dialog')) {
        box.close();
    }

    show($('nav'), false);
    show($('sign-out'), false);
    show($('status'), false);
    show($('sign-in'), true);
    text($('sign-in-error'), message);
    document.title = 'Sign in – ngx-llm';
    $('secret').value = '';
    $('secret').focus();
}


const WRONG = 'The gateway does not take this secret.';

async function signIn(event) {
    event.preventDefault();

    const secret = $('secret').value.trim();

    text($('sign-in-error'), '');

    // no header could carry it
    if (!/^[\x21-\x7e]+$/.test(secret)) {
        text($('sign-in-error'), WRONG);
        return;
    }

    try {
        await call('GET', 'status', { as: secret });

    } catch (error) {
        text($('sign-in-error'), error.status === 401 ? WRONG
            : error.message);
        $('secret').select();
        return;
    }

    keep(secret);
    $('secret').value = '';
    open();
    $('main').focus({ preventScroll: true });
}


function watch() {
    let since = null;

    signals.addEventListener('unreachable', () => {
        since = new Date();
        text($('banner'), `Not reachable since ${
            format.hourMinuteSecond(since)}. What is shown is of that time; `
            + 'it goes on by itself.');
        $('banner').title = format.utc(since);
        show($('banner'), true);
        document.documentElement.dataset.away = '';
    });

    signals.addEventListener('reachable', () => {
        show($('banner'), false);
        delete document.documentElement.dataset.away;
        refresh();
    });

    signals.addEventListener('refused', () => close(
        'The secret is not taken any more. Please sign in again.'));
}


function themes() {
    const root = document.documentElement;
    const select = $('theme');

    select.value = root.dataset.theme ?? 'auto';

    select.addEventListener('change', () => {
        if (select.value === 'auto') {
            delete root.dataset.theme;
        } else {
            root.dataset.theme = select.value;
        }

        try {
            localStorage.setItem('ngx-llm-theme', select.value);
        } catch {
            // storage is off: for this page only
        }

        recolour();
    });

    matchMedia('(prefers-color-scheme: dark)')
        .addEventListener('change', recolour);
}


for (const view of Object.values(VIEWS)) {
    view.init();
}

status.init();
watch();
themes();
window.addEventListener('hashchange', showView);
$('sign-in').addEventListener('submit', signIn);
$('sign-out').addEventListener('click', () => close(''));
document.querySelector('[data-skip]').addEventListener('click', (e) => {
    e.preventDefault();
    $('main').focus();
});

if (signedIn()) {
    open();
} else {
    close('');
}
