// The line at the foot of the page, from GET /status; others that need the
// same numbers are told.

import { get } from './api.js';
import { $, el, text, title } from './dom.js';
import * as format from './format.js';
import { Poll } from './poll.js';

const listeners = [];
const poll = new Poll(2000, now);

const REDIS = { up: ['Redis up', 'ok'], down: ['Redis down', 'bad'],
                off: ['Redis off', ''] };

let parts = null;
let asking = null;


function build() {
    const make = () => el('span');

    parts = { version: make(), workers: make(), redis: make(),
              policy: make(), started: make(), at: make() };
    parts.redis.className = 'badge';
    $('status').replaceChildren(...Object.values(parts));
}


function draw(status) {
    const policy = status.policy ?? {};
    const [said, level] = REDIS[status.redis] ?? [`Redis ${status.redis}`, ''];
    const started = new Date(status.started);
    const seen = new Date();

    text(parts.version, `ngx-llm ${status.version} on nginx ${status.nginx}`);
    text(parts.workers, status.workers === 1 ? '1 worker'
        : `${status.workers} workers`);
    text(parts.redis, said);
    parts.redis.dataset.level = level;
    text(parts.policy, `${format.exact((policy.file_keys ?? 0)
        + (policy.admin_keys ?? 0))} keys, `
        + `${format.exact(policy.teams)} teams`);
    title(parts.policy, `${format.exact(policy.file_keys)} keys of the file, `
        + `${format.exact(policy.admin_keys)} made here`);
    text(parts.started, `up ${format.span((seen - started) / 1000)}`);
    title(parts.started, `started ${format.utc(started)}`);
    text(parts.at, `as of ${format.hourMinuteSecond(seen)}`);
    title(parts.at, format.utc(seen));

    listeners.forEach((listener) => listener(status));
}


// two who ask at a time share the answer

export function now() {
    asking ??= get('status').then(draw, (error) => {
        if (error.status === undefined) {
            throw error;
        }
    }).finally(() => { asking = null; });

    return asking;
}


export function onChange(listener) {
    listeners.push(listener);
}


export function init() {
    build();
}

export const line = { start: () => poll.start(), stop: () => poll.stop() };
