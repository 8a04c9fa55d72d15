"""Tables for the terminal and the folder of results."""

import glob
import json
import os
import re

import goals
import picture

TITLES = {
    'cpu_us': 'CPU µs', 'rps': 'requests/s', 'p50': 'p50 µs',
    'p90': 'p90 µs', 'p99': 'p99 µs', 'ttft': 'first event µs',
    'commands': 'Redis commands', 'gbs': 'GB/s', 'redis_us': 'Redis CPU µs',
    'tasks': 'tasks/s', 'capacity': 'requests/s of a core',
    'transit': 'transit p50 µs',
}
WHAT = {
    'plain': 'plain nginx', 'twin': 'plain nginx, twin (A/A)',
    'ours': 'ngx-llm', 'shipped': 'ngx-llm, with its access log',
    'direct': 'the mock itself', 'return': 'nginx, return 200',
    'hit': 'ngx-llm, hit in memory', 'kept': 'ngx-llm, hit in Redis',
    'return-rate': 'nginx, return 200, at the rate',
    'hit-rate': 'ngx-llm, hit in memory, at the rate',
    'miss': 'ngx-llm, miss and store',
    'limits': 'ngx-llm, full policy',
    'exact': 'ngx-llm, full policy, by Redis, exact',
    'leased': 'ngx-llm, full policy, by Redis, leased',
    'sha256': 'SHA-256 of the body', 'scan': 'the scan',
    'noted': 'the scan with notes for a digest',
    'digest': 'scan and digest',
    'submit': 'a task submitted', 'run': 'a task run',
    'fetch': 'a task fetched',
}


def number(x):
    if x is None:
        return '–'
    if abs(x) >= 100:
        return '%d' % round(x)
    if abs(x) < 1:
        return '%.3f' % x
    return '%.1f' % x


def what(s, name):
    return s.get('what', {}).get(name) or WHAT.get(name) or name


def span(pair, form='%.3f'):
    if not pair:
        return ''
    return ('[' + form + ', ' + form + ']') % tuple(pair)


def timed_table(s):
    gate = s['gate']
    metrics = []
    for row in s['summary'].values():
        metrics += [m for m in row if m not in metrics]

    # absolute differences say more about a latency than a ratio
    late = gate in ('p50', 'ttft') and not s.get('as_ratio')
    head = ['target'] + [TITLES[m] for m in metrics]
    head += ['added µs' if late else 'ratio', '95 %']

    bases = {name: row.get(gate, {}).get('base')
             for name, row in s['summary'].items()}
    several = len(set(bases.values()) - {None}) > 1
    if several:
        head.append('to')
    rows = []

    for name, row in s['summary'].items():
        cells = [what(s, name)]
        cells += [number(row[m]['median']) + (' rig-bound' if
                                              row[m].get('bound') else '')
                  if m in row else '' for m in metrics]
        g = row.get(gate, {})
        if late:
            cells.append(number(g['added']) if 'added' in g else '0')
            cells.append(span(g.get('added_interval'), '%.1f'))
        else:
            cells.append('%.3f' % g['ratio'] if 'ratio' in g
                         else '1' if name in bases.values() else '')
            cells.append(span(g.get('interval')))
        if several:
            cells.append(what(s, bases[name]) if bases[name] else '')
        rows.append(cells)
    return head, rows


def table(s):
    if 'table' in s:
        return s['table']['head'], s['table']['rows']

    if 'summary' in s:
        return timed_table(s)

    if 'counts' in s:
        return (['', 'plain nginx', 'ngx-llm', 'ratio'],
                [[row['title'], number(row.get('plain')),
                  number(row.get('ours')), '%.3f' % row['ratio']
                  if row.get('ratio') is not None else '–']
                 for row in s['counts'].values()])

    if 'syscalls' in s:
        return (['target', 'calls', 'which'],
                [[what(s, name), '%.2f' % row['total'],
                  ', '.join('%s %.2f' % kv for kv in row['calls'].items())]
                 for name, row in s['syscalls'].items()])

    if 'profile' in s:
        rows = [[r['function'], number(r['inclusive']), number(r['self']),
                 number(r['plain']), number(r['plain_self'])]
                for r in s['profile']]
        rows += [['calls of ' + name, '%.1f' % n, '',
                  '%.1f' % s['calls']['plain'][name], '']
                 for name, n in s['calls']['ours'].items() if n]
        return ['function', 'ngx-llm', 'self', 'plain nginx', 'self'], rows

    return [], []


def lines_below(s):
    """What has to be said beside the table."""
    if 'failed' in s:
        return ['failed: ' + s['failed']]
    if 'skipped' in s:
        return ['skipped: ' + s['skipped']]

    said = []
    if 'verdict' in s:
        aa = s['summary']['twin'].get(s['gate'], {})
        said.append('%s (A/A ratio %s %s, %d rounds)' % (
            s['verdict'],
            '%.3f' % aa['ratio'] if 'ratio' in aa else '–',
            span(aa.get('interval')), rounds_of(s)))
    return said + s.get('notes', [])


def rounds_of(s):
    if isinstance(s['rounds'], list):
        return len(s['rounds'])
    return max(len(v) for row in s['rounds'].values() for v in row.values())


def section_text(name, s):
    head, rows = table(s)
    lines = ['', '%s (%s)' % (s['title'], name) if s['title'] != name
             else name]
    if s.get('unit'):
        lines[-1] += ', ' + s['unit']

    if rows:
        widths = [max(len(r[i]) for r in [head] + rows)
                  for i in range(len(head))]
        for r in [head] + rows:
            cells = [r[0].ljust(widths[0])]
            cells += [c.rjust(w) if len(c) < 40 else c
                      for c, w in zip(r[1:], [min(w, 40)
                                              for w in widths[1:]])]
            lines.append('  ' + '  '.join(cells).rstrip())

    lines += ['  ' + line for line in lines_below(s)]
    return '\n'.join(lines)


def section_md(name, s, drawn, results):
    lines = ['## ' + s['title'], '']
    if s.get('unit'):
        lines += ['In ' + s['unit'] + '.', '']
    if s.get('date', results['date']) != results['date']:
        lines += ['Measured on %s, revision %s.' % (s['date'],
                                                    s['revision']), '']

    head, rows = table(s)
    if rows:
        lines += markdown(head, rows)
    for line in lines_below(s):
        lines += [line, '']
    if drawn:
        lines += ['![%s](%s.svg)' % (name, name), '']
    return '\n'.join(lines)


def picture_of(s):
    """A section may have none."""
    if 'summary' in s:
        gate = s['gate']
        return picture.bars(s['title'], s['unit'], [
            (what(s, t), row[gate]['median'], row[gate].get('range'))
            for t, row in s['summary'].items() if gate in row])

    if 'counts' in s:
        bars = []
        for row in s['counts'].values():
            for label, key in (('plain', 'plain'), ('ngx-llm', 'ours')):
                if row.get(key) is not None:
                    bars.append(('%s, %s' % (row['title'], label),
                                 row[key]))
        return picture.bars(s['title'], s['unit'], bars)

    if 'syscalls' in s:
        return picture.bars(s['title'], s['unit'],
                            [(what(s, t), row['total'])
                             for t, row in s['syscalls'].items()])

    if s.get('bars'):
        return picture.bars(s['title'], s.get('unit', ''), s['bars'])
    return None


# section, target, label, goal if there is one, of the pictures of all of it
RATIOS = [
    ('json', 'twin', 'plain nginx again (A/A)', None),
    ('json', 'limits', '2 KB', 1.25),
    ('json20', 'limits', '20 KB', None),
    ('json200', 'limits', '200 KB', None),
    ('tls', 'limits', '2 KB, TLS to the provider', None),
    ('http2', 'limits', '2 KB, HTTP/2 to the client', None),
    ('limits', 'exact', 'limits kept by Redis, exact', None),
    ('limits', 'leased', 'limits kept by Redis, in chunks', None),
    ('paced', 'limits', 'paced event', 1.05),
    ('paced-http2', 'limits', 'paced event, HTTP/2', None),
    ('cache', 'kept', 'hit in Redis', 1.0),
    ('cache', 'miss', 'miss and store', None),
    ('cache', 'hit-rate', 'hit in memory ÷ return 200', 1.4),
]
ADDED = [
    ('ttft', 'first token'),
    ('ttft-awake', 'first token, awake'),
    ('ttft100', 'first token, 100 streams'),
    ('latency', '1,000 requests/s'),
    ('latency-busy', '10,000 requests/s'),
]


def overview(sections):
    """(name, picture) of what all sections say together."""
    dots = []
    for name, target, label, goal in RATIOS:
        s = sections.get(name, {})
        got = s.get('summary', {}).get(target, {}).get('cpu_us', {})
        if 'ratio' in got:
            dots.append((label, got['ratio'], got['interval'], goal))
    if dots:
        yield 'overview', picture.dots(
            'CPU time beside plain nginx in the same rounds',
            'ratio, 95 % interval; full policy; the upright marks are the '
            'goals', dots)

    bars = []
    for name, label in ADDED:
        s = sections.get(name, {})
        for target, who in (('twin', 'plain (A/A)'),
                            ('limits', 'ngx-llm')):
            got = s.get('summary', {}).get(target, {}).get(s.get('gate'), {})
            if 'added' in got:
                bars.append(('%s: %s' % (label, who), got['added'],
                             got['added_interval']))
    if bars:
        yield 'added', picture.bars('Latency added to plain nginx',
                                    'µs at the median, 95 % interval', bars)


# the files

def columns(rounds):
    """Rounds as {target: {metric: [one value for each round]}}."""
    table = {}
    for n, one in enumerate(rounds):
        for target, sample in one.items():
            for metric, value in sample.items():
                values = table.setdefault(target, {}).setdefault(metric, [])
                values += [None] * (n - len(values))
                values.append(float('%.5g' % value)
                              if isinstance(value, float) else value)
    return table


def as_json(results):
    """Readable, but with the rounds of one metric on one line."""
    lists = []

    def marked(x):
        if isinstance(x, dict):
            return {k: marked(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)) and not any(
                isinstance(v, (dict, list, tuple)) for v in x):
            lists.append(json.dumps(x, ensure_ascii=False))
            return '@list %d@' % (len(lists) - 1)
        if isinstance(x, (list, tuple)):
            return [marked(v) for v in x]
        return float('%.6g' % x) if isinstance(x, float) else x

    said = json.dumps(marked(results), indent=1, ensure_ascii=False)
    return re.sub(r'"@list (\d+)@"', lambda m: lists[int(m[1])], said)


def machine_md(results):
    m = results['machine']
    return ('%s (%d CPUs%s), Linux %s, %s, revision %s, on %s. Gateway on '
            'core %d, mock on core %d, load on core %d. Load average %.1f '
            'before, %.1f after; seed %d; %d s.' % (
                m['cpu'], m['cpus'],
                ', a virtual machine' if m.get('virtual') else '',
                m['kernel'], m['nginx'], m['revision'], results['date'],
                m['cores']['gateway'], m['cores']['mock'],
                m['cores']['load'], m['load_before'][0], m['load_after'][0],
                results['seed'], results['seconds']))


def markdown(head, rows):
    return ['| ' + ' | '.join(head) + ' |',
            '|---' + '|--:' * (len(head) - 1) + '|'] \
        + ['| ' + ' | '.join(r) + ' |' for r in rows] + ['']


def merged(results, folder, order, update):
    """With the sections of the last run that this one has not measured."""
    path = os.path.join(folder, 'results.json')
    for s in results['sections'].values():
        s['date'] = results['date']
        s['revision'] = results['machine']['revision']
        if 'rounds' in s:
            s['rounds'] = columns(s['rounds'])

    if update and os.path.exists(path):
        with open(path) as f:
            before = json.load(f)
        sections = {**before['sections'], **results['sections']}
        results = {**before, 'sections': {
            name: sections[name] for name in order if name in sections}}
    return results


def write(results, folder, order, update=False):
    """The one current set; what an earlier one left is removed."""
    os.makedirs(folder, exist_ok=True)
    results = merged(results, folder, order, update)
    sections = results['sections']

    for path in glob.glob(os.path.join(folder, '*.svg')):
        os.unlink(path)

    made = dict(overview(sections))
    lines = ['# ngx-llm beside plain nginx', '', machine_md(results), '',
             'Versions: ' + ', '.join(
                 '%s %s' % kv for kv in
                 results['machine'].get('versions', {}).items()) + '.', '',
             'Written by `bench/run`; [bench/README.md](../README.md) tells '
             'what was measured and how far to trust it, '
             '[results.json](results.json) has every round with load '
             'average and stolen time.', '', '## Goals', '']
    lines += markdown(*goals.table(results))
    for name in made:
        lines += ['![%s](%s.svg)' % (name, name), '']

    for name, s in sections.items():
        drawn = picture_of(s)
        if drawn:
            made[name] = drawn
        lines.append(section_md(name, s, bool(drawn), results))

    paths = []
    for name, said in [('results.json', as_json(results) + '\n'),
                       ('results.md', '\n'.join(lines).rstrip() + '\n')] \
            + [(name + '.svg', said) for name, said in made.items()]:
        paths.append(os.path.join(folder, name))
        with open(paths[-1], 'w') as f:
            f.write(said)
    return paths
