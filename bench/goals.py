"""What was to be reached, and what was."""

import stats

# how far the two plain ones may differ
CONTROL = 0.03

# section, target, metric, at most, what; "added": µs more than its base
TIMED = [
    ('json', 'limits', 'ratio', 1.25,
     'full policy in shared memory: CPU per request ÷ plain'),
    ('paced', 'limits', 'ratio', 1.05,
     'paced event of a stream: CPU ÷ plain'),
    ('ttft', 'limits', 'added', 30,
     'time to first token: added to plain (p50)'),
    ('ttft100', 'limits', 'added', 30,
     'the same with 100 streams open'),
    ('ttft-awake', 'limits', 'added', 30,
     'the same on processors that do not sleep'),
    ('cache', 'hit-rate', 'ratio', 1.4,
     'hit in shared memory: CPU ÷ "return 200", at one rate'),
    ('cache', 'hit', 'ratio', 1.4, 'the same in a closed loop'),
    ('cache', 'kept', 'ratio', 1.0, 'hit in Redis: CPU ÷ plain'),
]

# of a first event that waited for a delayed acknowledgement
SLOW = 0.005


def row(what, goal, measured=None, met=None, why=''):
    return {'what': what, 'goal': goal, 'measured': measured, 'met': met,
            'why': why or ('' if measured else 'not measured')}


def counts(sections, name, *keys):
    """The first of these rows that there is."""
    rows = sections.get(name, {}).get('counts', {})
    return next((rows[key] for key in keys if key in rows), None)


def timed(sections):
    for name, target, kind, most, what in TIMED:
        goal = '≤ +%d µs' % most if kind == 'added' else '≤ %.2f' % most
        s = sections.get(name, {})
        got = s.get('summary', {}).get(target, {}).get(s.get('gate'), {})
        if got.get(kind) is None:
            yield row(what, goal)
            continue

        pair = got.get('added_interval' if kind == 'added' else 'interval')
        form = '%+.1f' if kind == 'added' else '%.3f'
        said = form % got[kind] + (' µs' if kind == 'added' else '')
        if pair:
            said += ' [' + ', '.join(form % x for x in pair) + ']'
        yield row(what, goal, said, got[kind] <= most, '' if
                  s['verdict'] == 'valid' else 'the control is too noisy')


def slow(sections):
    shares = [sections[name]['slow']['limits'] for name in
              ('ttft', 'ttft-awake', 'ttft100')
              if sections.get(name, {}).get('slow')]
    return row('first tokens later than 30 ms (a delayed acknowledgement)',
               '< 0.5 %', *(['%.2f %%' % (max(shares) * 100),
                             max(shares) < SLOW] if shares else []))


def instructions(sections):
    got = counts(sections, 'instructions', 'limits', 'full', 'json')
    return row('full policy: instructions ÷ plain', '≤ 2',
               *(['%.2f' % got['ratio'], got['ratio'] <= 2] if got else []))


def limiter(sections):
    got = counts(sections, 'instructions', 'limiter')
    return row('limiter check of a key', '≤ 2,000 instructions',
               *([format(round(got['ours']), ','), got['ours'] <= 2000]
                 if got else []))


def memory(sections):
    rows = sections.get('memory', {}).get('counts', {})
    for size, goal, most in (('2048', '≤ plain + 2 KiB', 2048),
                             ('20480', '< plain', -1)):
        what = 'idle stream, prompt of %d KB: memory' % (int(size) // 1024)

        # of several numbers of streams, the worst
        of_size = [rows[key] for key in rows if key.split('-')[0] == size]
        if not of_size:
            yield row(what, goal)
            continue
        got = max(of_size, key=lambda r: r['ours'] - r['plain'])
        yield row(what, goal, '%.1f KiB, plain %.1f KiB' % (
            got['ours'] / 1024, got['plain'] / 1024),
            got['ours'] <= got['plain'] + most)


def control(sections):
    """Over all sections that compare CPU time."""
    off = {name: s['summary']['twin']['cpu_us']['ratio'] - 1
           for name, s in sections.items()
           if s.get('gate') == 'cpu_us'
           and 'ratio' in s['summary'].get('twin', {}).get('cpu_us', {})}
    if not off:
        return row('control: plain ÷ plain, worst of all sections',
                   'within 3 %')
    worst = max(off, key=lambda name: abs(off[name]))
    bad = [name for name, s in sections.items()
           if s.get('verdict', 'valid') != 'valid']
    return row('control: plain ÷ plain, worst of %d sections' % len(off),
               'within 3 %', '%+.1f %% (%s), median %+.1f %%' % (
                   off[worst] * 100, worst,
                   stats.median(list(off.values())) * 100),
               abs(off[worst]) <= CONTROL,
               'too noisy: ' + ', '.join(bad) if bad else '')


def goals(results):
    sections = results['sections']
    told = [g for s in sections.values() for g in s.get('goals', [])]
    rows = [control(sections), *timed(sections), slow(sections),
            instructions(sections), limiter(sections), *memory(sections)]

    # a section knows more about its own goals
    known = {g['what'] for g in told}
    return [r for r in rows if r['what'] not in known] \
        + [{**row(g['what'], g['goal'], g.get('measured')), **g}
           for g in told]


def said(goal):
    if goal['measured'] is None:
        return '–'
    word = {True: 'met', False: '**not met**', None: '–'}[goal['met']]
    return word + (' (%s)' % goal['why'] if goal.get('why') else '')


def table(results):
    return (['', 'goal', 'measured', ''],
            [[g['what'], g['goal'], str(g['measured'] or g['why']), said(g)]
             for g in goals(results)])
