// The view "Tasks": how the queue stands, whose tasks are in it, and those
// that were given up.

import { call, get, name as encode, signals } from './api.js';
import { dialog } from './dialogs.js';
import { $, el, facts, named, refused, show, table, text, toast }
    from './dom.js';
import * as format from './format.js';
import { Poll } from './poll.js';

const poll = new Poll(2000, refresh);
const DEAD = 100;

let showTeams = null;
let showDead = null;


function number(name, of) {
    return { name, class: 'number', cell: (td, item) => {
        text(td, format.exact(of(item)));
        td.dataset.value = of(item);
    } };
}


function buildTeams() {
    return table($('task-teams'), 'Teams and how many tasks they have', [
        { name: 'Team', cell: (th, item) => named(th, item.team) },
        number('Tasks', (item) => item.live),
        { name: 'Purge', silent: true, cell: (td, item) => {
            if (!td.firstChild) {
                td.append(el('button', { type: 'button', onclick: () =>
                    purge(item.team) }, 'Purge…',
                    el('span', { class: 'visually-hidden' }, ' ',
                        el('bdi', {}, item.team))));
            }
        } },
    ]);
}


function buildDead() {
    return table($('task-dead'), 'Tasks that were given up', [
        { name: 'Task', cell: (th, item) => named(th, item.id) },
        { name: 'Team', cell: (td, item) => named(td, item.team) },
        { name: 'Reason', cell: (td, item) => named(td, item.reason) },
        number('Attempts', (item) => item.attempts),
        number('Deaths', (item) => item.deaths),
        { name: 'When', cell: (td, item) => format.time(td, item.time) },
    ]);
}


function draw(now) {
    const live = now.queued + now.processing;

    facts($('task-tiles'), [
        ['Queued', format.short(now.queued), `${format.exact(now.queued)}, of `
         + `all ${format.exact(live)} of ${format.exact(now.max)} there may be`,
         now.queued],
        ['Processing', format.short(now.processing),
         `${format.exact(now.running_here)} in this gateway`, now.processing],
        ['Delayed', format.short(now.delayed),
         'queued, and to be tried again later', now.delayed],
        ['Dead', format.short(now.dead), format.exact(now.dead), now.dead],
        ['Next one waits', now.queued > 0 ? format.millis(now.oldest_ms)
            : format.NONE, `${format.exact(now.oldest_ms)} ms`, now.oldest_ms],
        ['Completed', format.short(now.completed),
         `${format.exact(now.completed)} completed, ${
             format.exact(now.error)} errors, ${
             format.exact(now.cancelled)} cancelled, of ${
             format.exact(now.submitted)} submitted`, now.completed],
    ]);

    showTeams(now.teams, (item) => `t${item.team}`);
    show($('task-teams'), now.teams.length > 0);
    text($('task-teams-note'), 'Nobody has a task that has not ended.');
    show($('task-teams-note'), now.teams.length === 0);
}


function drawDead(list) {
    // the same task may have been given up before
    showDead(list, (item) => `d${item.id} ${item.time}`);
    show($('task-dead'), list.length > 0);
    text($('task-dead-note'), 'No task was given up.');
    show($('task-dead-note'), list.length === 0);
}


async function refresh() {
    const note = $('tasks-note');

    try {
        const [now, dead] = await Promise.all([get('tasks'),
            get('tasks/dead', { limit: DEAD })]);

        draw(now);
        drawDead(dead.data);
        show(note, false);
        show($('tasks-all'), true);

    } catch (error) {
        // what was shown stays, unless there is no queue at all
        refused(error, note);

        if (error.status === 404) {
            show($('tasks-all'), false);
        }
    }
}


async function purge(team) {
    await dialog({
        title: 'Remove all tasks of ', name: team,
        fields: [el('p', {}, 'Those that wait are not run, those that run are '
            + 'stopped, and results that were not fetched are lost.')],
        buttons: [{ text: 'Remove', class: 'danger', action: 'purge',
            run: async () => {
                const answer = await call('POST', 'tasks/purge',
                    { body: { team } });

                toast(`${format.exact(answer.removed)} tasks were removed, ${
                    format.exact(answer.cancelling)} are being stopped.`);
                poll.now();
            } }],
    });
}


async function cancel(event) {
    event.preventDefault();

    const id = $('task-id').value.trim();

    if (id === '') {
        $('task-id').focus();
        toast('Which task? Please enter its id.');
        return;
    }

    try {
        const answer = await call('DELETE', `tasks/${encode(id)}`);

        toast(answer.status === 'cancelled' ? 'The task is cancelled.'
            : 'The task runs; it is being stopped.');
        $('task-id').value = '';
        poll.now();

    } catch (error) {
        toast(error.message);
    }
}


export function init() {
    showTeams = buildTeams();
    showDead = buildDead();
    $('task-cancel').addEventListener('submit', cancel);
    signals.addEventListener('reachable', () => poll.now());
}

export const view = { start: () => poll.start(), stop: () => poll.stop() };
