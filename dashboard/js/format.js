// Numbers, money and times as people read them.  The exact value is meant to
// be the title of the element that shows the short one.

const THIN = '\u202f';
const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 6 });
const STEPS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

export const NONE = '–';


export function exact(n) {
    return n === null || n === undefined ? NONE : grouped.format(n);
}


// 950, 1.2 k, 12.3 M; with a cut rather than a rounding to the next unit

export function short(n) {
    if (n === null || n === undefined) {
        return NONE;
    }

    const size = Math.abs(n);

    for (const [step, unit] of STEPS) {
        if (size >= step) {
            const value = n / step;
            const digits = Math.abs(value) < 100 ? 1 : 0;
            const rounded = value.toFixed(digits).replace(/\.0$/, '');

            return rounded + THIN + unit;
        }
    }

    return grouped.format(Math.round(n * 100) / 100);
}


// cents, but what is less than one is not nothing

export function money(usd) {
    if (usd === null || usd === undefined) {
        return NONE;
    }

    const size = Math.abs(usd);

    if (size >= 1e6) {
        return '$' + short(usd);
    }

    if (size > 0 && size < 0.01) {
        return '$' + usd.toFixed(6).replace(/0+$/, '');
    }

    return '$' + usd.toLocaleString('en', { minimumFractionDigits: 2,
                                            maximumFractionDigits: 2 });
}


export function moneyExact(usd) {
    return usd === null || usd === undefined ? NONE
        : '$' + grouped.format(usd);
}


export function percent(ratio) {
    if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) {
        return NONE;
    }

    const value = ratio * 100;

    // however near, it is not yet all
    if (value >= 99 && value < 100) {
        return (Math.floor(value * 10) / 10).toFixed(1) + THIN + '%';
    }

    return value.toFixed(value !== 0 && Math.abs(value) < 10 ? 1 : 0)
        .replace(/\.0$/, '') + THIN + '%';
}


export function millis(ms) {
    if (ms === null || ms === undefined) {
        return NONE;
    }

    if (ms < 1000) {
        return Math.round(ms) + THIN + 'ms';
    }

    if (ms < 120000) {
        return (ms / 1000).toFixed(ms < 10000 ? 2 : 1).replace(/\.?0+$/, '')
            + THIN + 's';
    }

    return span(ms / 1000);
}


export function span(seconds) {
    const s = Math.max(0, Math.round(seconds));
    const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

    for (let i = 0; i < parts.length; i++) {
        const [size, unit] = parts[i];

        if (s >= size || size === 1) {
            const rest = i + 1 < parts.length && s < 10 * size
                ? Math.floor(s % size / parts[i + 1][0]) : 0;

            return Math.floor(s / size) + THIN + unit
                + (rest ? ' ' + rest + THIN + parts[i + 1][1] : '');
        }
    }

    return '';
}


export function bytes(n) {
    if (n === null || n === undefined) {
        return NONE;
    }

    for (const [size, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'],
                                [2 ** 10, 'KiB']]) {
        if (n >= size) {
            return (n / size).toFixed(n < 10 * size ? 1 : 0) + THIN + unit;
        }
    }

    return n + THIN + 'B';
}


const clock = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const day = { day: 'numeric', month: 'short' };

function zone(utc) {
    return utc ? { timeZone: 'UTC' } : {};
}

export function hourMinute(date, utc) {
    return date.toLocaleTimeString('en-GB', { ...clock, ...zone(utc) });
}

export function hourMinuteSecond(date) {
    return date.toLocaleTimeString('en-GB', { ...clock, second: '2-digit' });
}

export function dayMonth(date, utc) {
    return date.toLocaleDateString('en-GB', { ...day, ...zone(utc) });
}

export function moment(date, utc) {
    const other = date.getFullYear() !== new Date().getFullYear();

    return date.toLocaleDateString('en-GB', { ...day, ...zone(utc),
            ...(other ? { year: 'numeric' } : {}) })
        + ' ' + hourMinute(date, utc);
}

export function utc(date) {
    return date.toISOString().replace('T', ' ').replace(/\.\d+Z$/, '')
        + ' UTC';
}


// puts a time into an element: local to read, UTC as the title

export function time(element, iso, none = NONE) {
    const date = iso ? new Date(iso) : null;
    const valid = date !== null && !Number.isNaN(date.getTime());
    const said = valid ? moment(date) : none;

    if (element.textContent !== said) {
        element.textContent = said;
    }

    element.title = valid ? utc(date) : '';
    return element;
}
