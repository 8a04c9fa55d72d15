// Elements from code.  Text only ever goes in as text: nothing here, nor
// anywhere else on the page, parses markup.

export const $ = (id) => document.getElementById(id);


// el('td', { class: 'number', title: 'x', onclick: f }, 'text', element)

export function el(tag, props = {}, ...children) {
    const element = document.createElement(tag);

    for (const [name, value] of Object.entries(props)) {
        if (value === null || value === undefined || value === false) {
            continue;
        }

        if (name.startsWith('on')) {
            element.addEventListener(name.slice(2), value);

        } else if (name === 'value') {
            element.value = value;

        } else {
            element.setAttribute(name, value === true ? '' : value);
        }
    }

    element.append(...children.flat().filter((c) => c !== null
                                             && c !== undefined));
    return element;
}


// sets what has changed only, so that a selection of text survives

export function text(element, value) {
    const string = String(value);

    if (element.textContent !== string) {
        element.textContent = string;
    }

    return element;
}


export function title(element, value) {
    if (element.title !== value) {
        element.title = value;
    }

    return element;
}


export function show(element, visible) {
    element.hidden = !visible;
}


// a name as its owner wrote it: it may be cut off, and of any script

export function named(cell, name) {
    if (!cell.firstChild) {
        cell.append(el('bdi'));
    }

    title(text(cell.firstChild, name), name);
}


// what the API refuses is told in place of the view, which asks again; that
// it cannot be reached is told elsewhere, and a mistake here goes on

export function refused(error, note) {
    if (error.status === undefined) {
        throw error;
    }

    if (error.status > 0) {
        text(note, error.message);
        show(note, true);
    }
}


// Children by key: an element whose item is still there stays, with its
// focus, and is only updated.

export function keyed(parent, items, keyOf, create, update) {
    const old = new Map();

    for (const child of parent.children) {
        old.set(child.dataset.key, child);
    }

    let place = parent.firstElementChild;

    for (const item of items) {
        const key = keyOf(item);
        let child = old.get(key);

        if (!child) {
            child = create(item);
            child.dataset.key = key;
        }

        old.delete(key);
        update(child, item);

        if (child === place) {
            place = place.nextElementSibling;

        } else {
            parent.insertBefore(child, place);
        }
    }

    for (const child of old.values()) {
        child.remove();
    }
}


// A table: columns are { name, class, silent, cell(td, item) }, cell being
// called whenever the item is new or may have changed.

export function table(element, caption, columns) {
    const body = el('tbody');

    element.replaceChildren(
        el('caption', { class: 'visually-hidden' }, caption),
        el('thead', {}, el('tr', {}, columns.map((column) => el('th',
            { scope: 'col', class: column.class }, el('span',
                { class: column.silent && 'visually-hidden' },
                column.name))))),
        body);

    return (items, keyOf) => keyed(body, items, keyOf,
        () => el('tr', {}, columns.map((column, i) => i === 0
            ? el('th', { scope: 'row', class: column.class })
            : el('td', { class: column.class }))),
        (row, item) => columns.forEach((column, i) =>
            column.cell(row.children[i], item)));
}


// a list of term and value; the value's exact form is its title

export function facts(element, items) {
    keyed(element, items, (item) => item[0],
        (item) => el('div', {}, el('dt', {}, item[0]), el('dd')),
        (child, item) => {
            const value = child.lastElementChild;

            text(value, item[1]);
            title(value, item[2] ?? '');
            value.dataset.value = item[3] ?? '';
        });
}


export function options(select, names, first) {
    const kept = select.value;
    const wanted = kept && !names.includes(kept) ? [...names, kept] : names;

    keyed(select, ['', ...wanted], (name) => name,
        (name) => el('option', { value: name }, name === '' ? first : name),
        () => {});
    select.value = kept;
}


// A bar with its meaning as text; ratio null: no bar.

export function bar(cell, ratio, label, level) {
    let meter = cell.querySelector('.bar');

    if (!meter) {
        meter = el('div', { class: 'bar', role: 'meter', 'aria-valuemin': 0,
                            'aria-valuemax': 100 }, el('div'));
        cell.append(meter);
    }

    meter.hidden = ratio === null;

    if (ratio === null) {
        return;
    }

    const percent = Math.max(0, Math.min(100, ratio * 100));

    meter.setAttribute('aria-valuenow', Math.round(percent));
    meter.setAttribute('aria-valuetext', label);
    meter.setAttribute('aria-label', label);
    meter.dataset.level = level ?? '';
    meter.firstElementChild.style.setProperty('--filled', `${percent}%`);
}


let toasted = 0;

export function toast(message) {
    const element = $('toast');

    element.textContent = message;
    element.hidden = false;
    clearTimeout(toasted);
    toasted = setTimeout(() => { element.hidden = true; }, 6000);
}
