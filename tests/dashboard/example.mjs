// Three months of a gateway that never was, in the shape of the admin API:
// for the states that a test cannot wait for, and for the pictures.

const STEP = { minute: 60, hour: 3600, day: 86400 };
const BACK = { minute: 86400, hour: 7 * 86400, day: 31 * 86400 };

const SUMS = ['requests', 'errors', 'cache_hits', 'prompt_tokens',
              'cached_tokens', 'completion_tokens', 'reasoning_tokens', 'usd',
              'saved_usd', 'unpriced'];

const MODELS = {
    'gpt-4o-mini': { share: 1, price: 4e-7 },
    'text-embedding-3-small': { share: 0.6, price: 2e-8 },
    'gpt-4.1': { share: 0.4, price: 4e-6 },
    'gpt-4o': { share: 0.3, price: 6e-6 },
    'o3-mini': { share: 0.12, price: 3e-6 },
};

const TEAMS = {
    search: { share: 1, budget: 5000, spent: 2140.27 },
    research: { share: 0.8, budget: 3000, spent: 2611.9 },
    support: { share: 0.55, budget: 800, spent: 808.31 },
    ads: { share: 0.3, budget: 1200, spent: 402.6 },
    notebooks: { share: 0.15 },
    legal: { share: 0.07, budget: 150, spent: 31.02 },
    finance: { share: 0.05, budget: 90, spent: 12.4 },
    onboarding: { share: 0.03 },
};

// names as somebody with ill intent would choose them
export const HOSTILE = ['<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>', "';alert(1)//&amp;", '\u202eevil\u202c',
    'שלום "x" <b>', 'x'.repeat(200)];


// the same each time

function random(text) {
    let hash = 2166136261;

    for (let i = 0; i < text.length; i++) {
        hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
    }

    hash = Math.imul(hash ^ hash >>> 15, 0x2c1b3c6d);
    return ((hash ^ hash >>> 13) >>> 0) / 2 ** 32;
}

const round = (usd) => Math.round(usd * 1e6) / 1e6;
const zero = () => Object.fromEntries(SUMS.map((name) => [name, 0]));
const iso = (s) => new Date(s * 1000).toISOString().replace('.000Z', 'Z');
const list = (data) => ({ object: 'list', data, has_more: false, next: null });

function add(sums, more) {
    for (const name of SUMS) {
        sums[name] = round(sums[name] + more[name]);
    }

    return sums;
}


export class Example {
    constructor({ hostile = false, now = Date.now() / 1000 } = {}) {
        this.now = now;
        this.teams = { ...TEAMS };
        this.models = { ...MODELS };

        if (hostile) {
            for (const name of HOSTILE) {
                this.teams[name] = { share: 0.9, budget: 1000, spent: 10 };
                this.models[name] = { share: 0.5, price: 1e-6 };
            }
        }

        this.hostile = hostile;
        this.open = true;
        this.queue = true;
    }

    // of one team and model in one bucket
    cell(start, step, team, model) {
        const date = new Date(start * 1000);
        const hour = date.getUTCHours() + date.getUTCMinutes() / 60;
        const week = [0.35, 1, 1.05, 1, 1.1, 0.95, 0.4][date.getUTCDay()];
        const busy = step === STEP.day ? 0.62
            : 0.3 + 0.7 * Math.max(0, Math.sin((hour - 6) / 24 * 6.28 - 0.3));
        const requests = Math.floor(step / 60 * 14 * busy * week
            * this.teams[team].share * this.models[model].share
            * (0.75 + 0.5 * random(team + model + start)));
        const hits = Math.floor(requests * (0.2 + 0.1 * random('h' + start)));
        const prompt = requests * 420;
        const completion = (requests - hits) * 180;
        const { price } = this.models[model];

        return { requests, cache_hits: hits,
            errors: Math.floor(requests * 0.02 * random(`e${start}`)),
            prompt_tokens: prompt, cached_tokens: Math.floor(prompt * 0.1),
            completion_tokens: completion,
            reasoning_tokens: model === 'o3-mini' ? completion >> 1 : 0,
            usd: round((prompt + completion * 3) * price),
            saved_usd: round(hits * 960 * price), unpriced: 0 };
    }

    usage(query) {
        const period = query.get('period') ?? 'day';
        const step = STEP[period];
        const from = Math.floor((Number(query.get('from'))
            || this.now - BACK[period]) / step) * step;
        const by = (query.get('group_by') ?? '').split(',')
            .filter((name) => name !== '');
        const buckets = query.get('buckets') !== 'false';
        const rows = new Map();
        const total = zero();
        const all = (names, wanted) => Object.keys(names).filter((name) =>
            !wanted || name === wanted);

        for (let s = from; s < this.now; s += step) {
            for (const team of all(this.teams, query.get('team'))) {
                for (const model of all(this.models, query.get('model'))) {
                    const cell = this.cell(s, step, team, model);
                    const groups = Object.fromEntries(by.map((name) =>
                        [name, name === 'team' ? team : model]));
                    const start = iso(buckets ? s : from);
                    const key = JSON.stringify([start, groups]);

                    if (!rows.has(key)) {
                        rows.set(key, { start, ...groups, ...zero() });
                    }

                    add(rows.get(key), cell);
                    add(total, cell);
                }
            }
        }

        return { object: 'usage', period, from: iso(from), to: iso(this.now),
                 group_by: by, fleet: period !== 'minute', truncated: false,
                 data: [...rows.values()], total };
    }

    latency(query) {
        const step = STEP[query.get('period')];
        const data = [];

        for (let s = Math.floor(Number(query.get('from')) / step) * step;
             s < this.now; s += step)
        {
            const r = random(`l${s}`);
            const quiet = random(`q${s}`) < 0.03;

            data.push({ start: iso(s), requests: quiet ? 0 : 900,
                latency_ms: quiet ? { p50: null, p95: null, p99: null }
                    : { p50: 900 + 200 * r, p95: 2600 + 900 * r,
                        p99: 5200 + 2500 * random(`m${s}`) },
                ttft_ms: quiet ? { p50: null, p95: null, p99: null }
                    : { p50: 240 + 60 * r, p95: 700 + 200 * r,
                        p99: 1500 + 600 * random(`n${s}`) } });
        }

        return { object: 'latency', period: query.get('period'), data };
    }

    status() {
        return { object: 'status', version: '0.1.0', nginx: '1.22.1',
            started: iso(this.now - 3 * 86400 - 4 * 3600), workers: 4,
            redis: 'up', policy: { file_keys: 12, admin_keys: 46, teams: 8 },
            requests: { running: 43, waiting: 3 },
            cache: { entries: 18234, bytes: 21345678, size_bytes: 67108864,
                     hits: 482113, joined: 1204, stale: 310, misses: 1210334,
                     bypassed: 812, saved_tokens: 310234567,
                     saved_usd: 812.4412 },
            day: { ...zero(), requests: 182311, usd: 291.114 },
            month: { ...zero(), usd: 5994.1 },
            minute: { ...zero(), requests: 412, prompt_tokens: 171234,
                      completion_tokens: 52311 } };
    }

    slots() {
        return list([
            ['key', 'support-bot', 4, 4, 3], ['team', 'search', 21, 32],
            ['team', 'research', 9, 32], ['team', 'support', 4, 8],
            ['key', 'search-web', 17, 24], ['key', 'notebooks', 2, 4],
            ['provider', 'openai', 43, null],
            ...this.hostile ? HOSTILE.map((name) => ['key', name, 1, 2]) : [],
        ].map(([kind, name, used, limit, waiting = 0]) => ({ object: 'slots',
            kind, name, in_use: used, concurrency: limit, waiting })));
    }

    breakers() {
        const target = (name, state, more) => ({ object: 'target', name, state,
            until: null, cooling_until: null, running: 0, most: null,
            first_ms: { p50: null, p95: null }, requests: null, tokens: null,
            ejections: 0, cooled: 0, retries: 0, denied: 0, paced: 0,
            ...more });

        return list([
            target('openai:gpt-4o', 'closed', { running: 31, most: 64,
                first_ms: { p50: 312, p95: 890 }, retries: 31, denied: 4,
                paced: 12, ejections: 2,
                requests: { limit: 10000, remaining: 9120, reset_ms: 500 },
                tokens: { limit: 2e6, remaining: 1712000, reset_ms: 900 } }),
            target('openai:gpt-4o-mini', 'closed', { running: 12, retries: 6,
                cooling_until: iso(Math.floor(this.now) + 9), cooled: 3,
                first_ms: { p50: 201, p95: 480 } }),
            target('azure:gpt-4o', this.open ? 'open' : 'closed', {
                until: this.open ? iso(Math.floor(this.now) + 22) : null,
                ejections: 5, retries: 2 }),
            target('local:llama-3', 'half_open', { running: 1, most: 4,
                first_ms: { p50: 45, p95: 120 }, ejections: 1, retries: 7 }),
            ...this.hostile ? HOSTILE.map((name) => target(name, 'open'))
                : [],
        ]);
    }

    teamList() {
        return list(Object.entries(this.teams).map(([name, team], i) => {
            const month = team.spent ?? 4.2 * i;
            const ratio = round(month / team.budget);
            const forecast = round(month * 1.31);

            return { object: 'team', name, source: i % 3 ? 'admin' : 'file',
                shadowed: false, keys: 3 + i,
                day: { ...zero(), requests: Math.floor(90000 * team.share),
                       prompt_tokens: Math.floor(4e7 * team.share),
                       completion_tokens: Math.floor(9e6 * team.share),
                       usd: round(month / 20) },
                month: { ...zero(), usd: month },
                spend: team.budget ? { period: 'month',
                    budget_usd: team.budget, usd: month, ratio,
                    resets: iso(this.now + 9 * 86400),
                    forecast_usd: forecast,
                    exhausted: forecast <= team.budget ? null
                        : iso(ratio >= 1 ? this.now - 7200
                            : this.now + 4 * 86400) } : null };
        }));
    }

    tasks() {
        return { object: 'tasks', queued: 1240, processing: 64, delayed: 12,
            dead: 3, oldest_ms: 4210, submitted: 182400, completed: 180120,
            error: 611, cancelled: 365, retries: 2210, deaths: 9,
            running_here: 32, max: 100000, team_max: 60000,
            classes: ['high', 'normal', 'low'].map((priority) => ({ priority,
                length: 90, taken: 21 })),
            teams: [['research', 1102], ['search', 160], ['~ci', 42],
                    ...this.hostile ? HOSTILE.map((name) => [name, 1]) : []]
                .map(([team, live]) => ({ team, live })) };
    }

    dead() {
        return list([
            ['research', 'poison', 4], ['search', 'deadline', 0],
            ['search', 'HTTP 500', 0],
            ...this.hostile ? HOSTILE.map((name) => [name, name, 0]) : [],
        ].map(([team, reason, deaths], i) => ({ object: 'task.dead',
            id: `task-${String(i).padStart(24, 'Kx9fPq2mVb7TzR4nLw8sHd3J')}`,
            team, reason, attempts: 5, deaths,
            time: iso(this.now - 900 * (i + 1)) })));
    }

    keyList() {
        const key = (name, team, more = {}) => ({ object: 'key', name, team,
            enabled: true, expires: null, created: iso(this.now - 4e6),
            source: 'admin', shadowed: false,
            hint: `sk-llm-…${Math.floor(random(name) * 1e6).toString(36)
                .padStart(4, 'x').slice(0, 4)}`,
            rotation: null, raises: [],
            effective: { requests_per_minute: 60, tokens_per_minute: 20000,
                         requests_per_day: null, tokens_per_day: null,
                         concurrency: 8, budget: null, priority: 0 },
            ...more });

        return list([
            key('batch', 'research', { raises: [{ limit: 'tokens_per_minute',
                value: 20000, until: iso(this.now + 86400) }] }),
            key('ci', null, { expires: iso(this.now + 40 * 86400) }),
            key('demo', null, { source: 'file', hint: null, created: null }),
            key('notebooks', 'research', { metadata: { owner: 'Ada' } }),
            key('old-bot', 'support', { enabled: false }),
            key('search-web', 'search', { rotation: {
                until: iso(this.now + 3600) } }),
            key('support-bot', 'support'), key('trial', 'ads',
                { expires: iso(this.now - 86400) }),
            ...this.hostile ? HOSTILE.map((name) => key(name, name,
                { metadata: { [name]: name }, models: [name] })) : [],
        ]);
    }

    // what the admin API would answer to GET, else null
    answer(path, query) {
        return { usage: () => this.usage(query),
                 latency: () => this.latency(query),
                 status: () => this.status(), slots: () => this.slots(),
                 breakers: () => this.breakers(),
                 teams: () => this.teamList(),
                 keys: () => this.keyList(),
                 ...this.queue ? { tasks: () => this.tasks(),
                                   'tasks/dead': () => this.dead() } : {} }[path]?.() ?? null;
    }
}


// page sees the example instead of the gateway's admin API

export async function intercept(page, example) {
    await page.setRequestInterception(true);

    page.on('request', (request) => {
        const url = new URL(request.url());
        const path = url.pathname.match(/^\/admin\/v1\/(.*)$/)?.[1];

        if (path === undefined) {
            request.continue();
            return;
        }

        const body = request.method() === 'GET'
            ? example.answer(path, url.searchParams) : null;

        request.respond(body === null
            ? { status: 404, contentType: 'application/json',
                body: '{"error":{"message":"There is no such thing.",'
                    + '"type":"x","param":null,"code":"unknown_url"}}' }
            : { status: 200, contentType: 'application/json',
                body: JSON.stringify(body) });
    });
}
