// One chart: a figure with its sum, a plot, a legend that follows the cursor,
// and the same numbers as a table for who does not see the plot.

import { el, keyed, text, title } from './dom.js';
import * as format from './format.js';

const PALETTE = 7;
const charts = new Set();


// colours are the style sheet's, in both themes

function colour(name) {
    return getComputedStyle(document.documentElement)
        .getPropertyValue(name).trim();
}

const shade = (i) => `--series-${i % PALETTE}`;


// "14:00", and the day where one begins

function timeLabels(utc) {
    return (u, splits, axis, space, step) => splits.map((s) => {
        const date = new Date(s * 1000);
        const clock = format.hourMinute(date, utc);

        return step >= 86400 || clock === '00:00'
            ? format.dayMonth(date, utc) : clock;
    });
}


// a value between gaps would be a line without length

function lonely(u, series) {
    const values = u.data[series];
    const found = [];

    for (let i = 0; i < values.length; i++) {
        if (values[i] !== null && (values[i - 1] ?? null) === null
            && (values[i + 1] ?? null) === null)
        {
            found.push(i);
        }
    }

    return found;
}


// each series on top of the ones before it

function stack(series) {
    const sums = [];
    let below = null;

    for (const one of series) {
        below = one.values.map((v, i) => (v ?? 0) + (below ? below[i] : 0));
        sums.push(below);
    }

    return sums;
}


export class Chart {
    // kind: 'bars' (stacked) or 'line'; format, exact: of a value; least: how
    // far the axis goes when the values are small
    constructor(parent, { id, name, unit, kind, format, exact, least }) {
        Object.assign(this, { name, unit, kind, format, least,
                              exact: exact ?? format });
        this.data = null;
        this.plot = null;
        this.shape = '';
        this.cursor = null;

        const table = el('table');

        this.sum = el('span', { class: 'sum' });
        this.unit = el('span', { class: 'unit' }, unit);
        this.box = el('div', { class: 'plot', role: 'img' });
        this.empty = el('p', { class: 'empty' });
        this.empty.hidden = true;
        this.legend = el('ul', { class: 'legend' });
        this.head = el('thead');
        this.body = el('tbody');
        this.details = el('details', { ontoggle: () => this.drawTable() },
            el('summary', {}, 'Table',
                el('span', { class: 'visually-hidden' }, ` of ${name}`)),
            el('div', { class: 'scroll', tabindex: 0, role: 'region',
                        'aria-label': `${name}, table` }, table));
        table.append(el('caption', { class: 'visually-hidden' },
            `${name}, ${unit}`), this.head, this.body);

        parent.append(el('figure', { class: 'card chart', id },
            el('figcaption', {}, el('h3', {}, name, this.unit), this.sum),
            this.box, this.empty, this.legend, this.details));

        new ResizeObserver(() => this.resize()).observe(this.box);
        charts.add(this);
    }

    // x: starts of the buckets in seconds; series: [{ name, values, total }];
    // sum: what stands beside the title; unit: another one; empty: what to say
    // instead of it all
    set({ x, end, utc, series, sum, unit, empty }) {
        this.data = { x, end, utc, series, sum, empty };

        if (unit) {
            text(this.unit, unit);
        }

        text(this.sum, sum ?? '');
        this.empty.hidden = !empty;
        this.box.hidden = this.legend.hidden = this.details.hidden = !!empty;

        if (empty) {
            text(this.empty, empty);
            return;
        }

        this.box.setAttribute('aria-label', `${this.name}: `
            + series.map((s) => `${s.name} ${s.total}`).join(', '));
        this.draw();
        this.drawLegend();
        this.drawTable();
    }

    draw() {
        const { x, end, series, utc } = this.data;
        const shape = this.kind + utc + series.length
            + document.documentElement.dataset.theme;
        const sums = this.kind === 'bars' ? stack(series).reverse()
            : series.map((s) => s.values);

        this.range = [x[0] ?? end - 1, end];

        if (shape !== this.shape || !this.plot) {
            this.plot?.destroy();
            this.shape = shape;
            this.plot = new uPlot(this.options(), [x, ...sums], this.box);

        } else {
            this.plot.setData([x, ...sums]);
        }
    }

    options() {
        const { series, utc } = this.data;
        const grid = { stroke: colour('--grid'), width: 1 };
        const axis = { stroke: colour('--text-2'), grid,
                       ticks: { show: false },
                       font: '11px system-ui, sans-serif' };
        const count = series.length;

        return {
            width: this.box.clientWidth || 300,
            height: this.box.clientHeight || 160,
            padding: [8, 18, 0, 0],
            legend: { show: false },
            cursor: { y: false, drag: { x: false, y: false },
                      points: { show: false }, sync: { key: 'usage' } },
            scales: {
                x: { time: true, range: () => this.range },
                y: { range: (u, min, max) =>
                    [0, Math.max((max ?? 0) * 1.06, this.least ?? 0) || 1] },
            },
            axes: [
                { ...axis, space: 56, size: 24, gap: 4,
                  grid: { show: false }, values: timeLabels(utc) },
                { ...axis, space: 30, gap: 4,
                  size: (u, values) => 14 + 6.5 * Math.max(3,
                      ...(values ?? []).map((v) => String(v).length)),
                  values: (u, splits) => splits.map((v) => this.format(v)) },
            ],
            series: [{}, ...series.map((s, i) => this.kind === 'bars'
                ? this.barsOf(shade(count - 1 - i)) : this.lineOf(shade(i)))],
            tzDate: (s) => utc ? uPlot.tzDate(new Date(s * 1000), 'Etc/UTC')
                : new Date(s * 1000),
            hooks: { setCursor: [(u) => {
                this.cursor = u.cursor.idx ?? null;
                this.drawLegend();
            }] },
        };
    }

    barsOf(shade) {
        const paths = uPlot.paths.bars({ size: [0.82, 64, 1], align: 1 });

        return { paths, fill: colour(shade), stroke: colour(shade), width: 0,
                 points: { show: false } };
    }

    lineOf(shade) {
        return { stroke: colour(shade), width: 1.75, spanGaps: false,
                 points: { show: true, size: 4, fill: colour(shade),
                           filter: lonely } };
    }

    // the sums, or the values of the bucket under the cursor
    drawLegend() {
        if (!this.data || this.data.empty) {
            return;
        }

        const { series, x, utc } = this.data;
        const at = this.cursor !== null && this.cursor < x.length
            ? this.cursor : null;
        const items = series.map((s, i) => ({ name: s.name, shade: shade(i),
            value: at === null ? s.total : this.format(s.values[at]) }));

        if (at !== null) {
            const date = new Date(x[at] * 1000);

            text(this.sum, utc ? `${format.dayMonth(date, true)}, UTC`
                : format.moment(date));

        } else {
            text(this.sum, this.data.sum ?? '');
        }

        keyed(this.legend, items, (item) => 'n' + item.name,
            () => el('li', {}, el('i'), el('bdi'), el('b')),
            (li, item) => {
                li.children[0].style.setProperty('--shade',
                    `var(${item.shade})`);
                title(text(li.children[1], item.name), item.name);
                text(li.children[2], item.value ?? '');
            });
    }

    drawTable() {
        if (!this.details.open || !this.data || this.data.empty) {
            return;
        }

        const { x, series, utc } = this.data;
        const rows = x.map((s, i) => ({ s, i })).filter(({ i }) =>
            series.some((one) => one.values[i])).reverse();

        this.head.replaceChildren(el('tr', {},
            el('th', { scope: 'col' }, utc ? 'Day (UTC)' : 'Time'),
            series.map((s) => el('th', { scope: 'col', class: 'number' },
                el('bdi', {}, s.name)))));

        this.body.replaceChildren(...rows.map(({ s, i }) => {
            const date = new Date(s * 1000);

            return el('tr', {},
                el('th', { scope: 'row', title: format.utc(date) },
                    format.moment(date, utc)),
                series.map((one) => el('td', { class: 'number' },
                    this.exact(one.values[i]))));
        }));
    }

    resize() {
        if (this.plot && this.box.clientWidth > 0) {
            this.plot.setSize({ width: this.box.clientWidth,
                                height: this.box.clientHeight });
        }
    }

    // in other colours
    again() {
        if (this.data && !this.data.empty) {
            this.shape = '';
            this.draw();
        }
    }
}


export function recolour() {
    for (const chart of charts) {
        chart.again();
    }
}
