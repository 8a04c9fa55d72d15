// Repeats what refreshes a view: never twice at a time, and not while the tab
// is hidden.

const all = new Set();

export class Poll {
    // work: an async function; what it throws it has shown itself
    constructor(ms, work) {
        this.ms = ms;
        this.work = work;
        this.on = false;
        this.running = false;
        this.again = false;
        this.timer = 0;
        all.add(this);
    }

    start() {
        if (!this.on) {
            this.on = true;
            this.now();
        }
    }

    stop() {
        this.on = false;
        clearTimeout(this.timer);
    }

    // at once, or as soon as the present run is over
    async now() {
        clearTimeout(this.timer);

        if (!this.on || document.hidden) {
            return;
        }

        if (this.running) {
            this.again = true;
            return;
        }

        this.running = true;

        try {
            await this.work();
        } finally {
            this.running = false;
        }

        if (this.again) {
            this.again = false;
            this.now();

        } else if (this.on && !document.hidden) {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.now(), this.ms);
        }
    }
}


export function refresh() {
    for (const poll of all) {
        poll.now();
    }
}


document.addEventListener('visibilitychange', refresh);
