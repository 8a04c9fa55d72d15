// The admin API.  Whoever asks gets the answer or an ApiError; that the
// gateway cannot be reached, or does not take the secret, is told to all by
// events of `signals`: "reachable", "unreachable", "refused".

const BASE = new URL('../admin/v1/', document.baseURI);
const STORED = 'ngx-llm-admin-secret';
const TIMEOUT = 10000;

export const signals = new EventTarget();

let reachable = true;
let secret = null;

try {
    secret = sessionStorage.getItem(STORED);
} catch {
    // storage is off: the secret lives as long as the page
}


export class ApiError extends Error {
    constructor(status, error) {
        super(error?.message || `the gateway answered with status ${status}`);
        this.status = status;
        this.code = error?.code ?? null;
        this.param = error?.param ?? null;
    }
}


export function signedIn() {
    return secret !== null;
}


export function keep(value) {
    secret = value;

    try {
        if (value === null) {
            sessionStorage.removeItem(STORED);
        } else {
            sessionStorage.setItem(STORED, value);
        }
    } catch {
        // as above
    }
}


function tell(name) {
    const now = name === 'reachable';

    if (now !== reachable) {
        reachable = now;
        signals.dispatchEvent(new Event(name));
    }
}


// query: members that are null, undefined or '' are left out

function url(path, query) {
    const target = new URL(path, BASE);

    for (const [name, value] of Object.entries(query ?? {})) {
        if (value !== null && value !== undefined && value !== '') {
            target.searchParams.set(name, value);
        }
    }

    return target;
}


export async function call(method, path, { query, body, as } = {}) {
    const used = as ?? secret;
    const headers = { Authorization: `Bearer ${used}` };
    let answer, json;

    if (body !== undefined) {
        headers['Content-Type'] = 'application/json';
    }

    try {
        answer = await fetch(url(path, query), {
            method, headers, cache: 'no-store', credentials: 'omit',
            redirect: 'error', signal: AbortSignal.timeout(TIMEOUT),
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        json = await answer.text();

    } catch {
        tell('unreachable');
        throw new ApiError(0, { message: 'The gateway cannot be reached.' });
    }

    tell('reachable');

    try {
        json = JSON.parse(json);
    } catch {
        json = null;
    }

    if (answer.status === 401 && as === undefined && used === secret) {
        signals.dispatchEvent(new Event('refused'));
    }

    if (!answer.ok || json === null) {
        throw new ApiError(answer.status, json?.error);
    }

    return json;
}


export const get = (path, query) => call('GET', path, { query });
export const name = (string) => encodeURIComponent(string);
