// Modal dialogs on <dialog>, which keeps the focus inside, ends by Esc and
// gives the focus back.

import { el, text } from './dom.js';

let count = 0;


// Fields: { name, label, hint, type, value, required, … attributes of input },
// or { name, label, options: [[value, text]] }, or an element as it is.

function field(item) {
    if (item instanceof Node) {
        return item;
    }

    const { name, label, hint, options, value, ...attributes } = item;
    const id = `field-${++count}`;
    const described = hint ? { 'aria-describedby': `${id}-hint` } : {};
    const input = options
        ? el('select', { id, name, ...described, ...attributes },
            options.map(([v, t]) => el('option', { value: v }, t)))
        : el('input', { id, name, type: 'text', autocomplete: 'off',
                        spellcheck: 'false', ...described, ...attributes });

    if (value !== undefined) {
        input.value = value;
    }

    return el('div', { class: 'field' }, el('label', { for: id }, label),
        input, hint ? el('p', { class: 'hint', id: `${id}-hint` }, hint)
            : null);
}


// The title may hold a name: { title: 'Delete ', name: 'notebooks' }.
// buttons: { text, class, run(values) }; run throws to keep the dialog, with
// the error's message shown at its field if it has a param.  Resolves when
// the dialog is gone, with what the last run returned, else undefined.

export function dialog({ title, name, fields = [], buttons, cancel = 'Cancel',
                         guard, wide })
{
    const id = `dialog-${++count}`;
    const error = el('p', { class: 'error', role: 'alert' });
    let result;

    return new Promise((resolve) => {
        const made = buttons.map((button, i) => el('button', {
            type: i === buttons.length - 1 && button.submit !== false
                ? 'submit' : 'button',
            class: button.class, value: String(i),
            'data-action': button.action,
            onclick: (e) => {
                if (e.currentTarget.type === 'button') {
                    run(button);
                }
            } }, button.text));

        const form = el('form', { onsubmit: (e) => {
            e.preventDefault();
            run(buttons[buttons.length - 1]);
        } },
            el('h2', { id }, title, name !== undefined
                ? el('bdi', {}, name) : null),
            el('div', { class: 'fields' }, fields.map(field)), error,
            el('div', { class: 'buttons' },
                cancel === null ? null : el('button', { type: 'button',
                    'data-action': 'cancel',
                    onclick: () => box.close() }, cancel),
                made));

        const box = el('dialog', { 'aria-labelledby': id,
                                   class: wide ? 'wide' : null,
            oncancel: (e) => {
                const said = guard?.();

                if (said && e.cancelable) {
                    e.preventDefault();
                    text(error, said);
                }
            },
            onclose: () => {
                box.remove();
                resolve(result);
            } }, form);

        async function run(button) {
            const values = Object.fromEntries(new FormData(form));
            const all = form.querySelectorAll('button');

            text(error, '');
            all.forEach((b) => { b.disabled = true; });

            try {
                result = await button.run(values);
                box.close();

            } catch (e) {
                all.forEach((b) => { b.disabled = false; });
                mark(form, e.param);
                text(error, e.message);
            }
        }

        document.body.append(box);
        box.showModal();
    });
}


// the focus goes to the field that the error is about

function mark(form, param) {
    for (const input of form.querySelectorAll('[aria-invalid]')) {
        input.removeAttribute('aria-invalid');
    }

    const input = param
        ? form.elements.namedItem(String(param).split('.')[0]) : null;

    if (input instanceof HTMLElement) {
        input.setAttribute('aria-invalid', 'true');
        input.focus();
    }
}


// also where the browser gives no clipboard (plain http from afar)

export async function copy(input) {
    input.focus();
    input.select();

    try {
        await navigator.clipboard.writeText(input.value);
        return true;

    } catch {
        try {
            return document.execCommand('copy');
        } catch {
            return false;
        }
    }
}


// A secret, to be seen this once: Esc asks again while it was not copied.

export function secret(title, name, value) {
    let done = false;
    const input = el('input', { type: 'text', readonly: true,
        id: 'made-secret', class: 'secret', spellcheck: 'false', autocomplete: 'off', value,
        'aria-describedby': 'made-secret-note',
        oncopy: () => { done = true; } });
    const said = el('span', { role: 'status', class: 'note' });
    const button = el('button', { type: 'button', class: 'primary',
        'data-action': 'copy', autofocus: true, onclick: async () => {
            done = await copy(input) || done;
            text(said, done ? 'Copied.' : 'Select it and copy it by hand.');
            button.focus();
        } }, 'Copy');

    return dialog({ title, name, cancel: null,
        fields: [el('div', { class: 'field' },
            el('label', { for: 'made-secret' }, 'Secret'), input,
            el('p', { class: 'hint', id: 'made-secret-note' },
                'It is shown this once: only its hash is kept.'),
            el('p', { class: 'inline' }, button, said))],
        guard: () => {
            const warn = !done;

            done = true;
            return warn
                ? 'It has not been copied. Esc once more closes this.' : null;
        },
        buttons: [{ text: 'Close', action: 'close', run: async () => {} }] });
}
