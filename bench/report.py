"""Tables for the terminal and the folder of results."""

import json
import os
import time

import picture

TITLES = {
    'cpu_us': 'CPU µs', 'rps': 'requests/s', 'p50': 'p50 µs',
    'p90': 'p90 µs', 'p99': 'p99 µs', 'ttft': 'first event µs',
    'commands': 'Redis commands', 'gbs': 'GB/s', 'redis_us': 'Redis CPU µs',
    'tasks': 'tasks/s',
}
WHAT = {
    'plain': 'plain nginx', 'twin': 'plain nginx, twin (A/A)',
    'ours': 'ngx-llm', 'shipped': 'ngx-llm, with its access log',
    'direct': 'the mock itself', 'return': 'nginx, return 200',
    'hit': 'ngx-llm, hit in memory', 'kept': 'ngx-llm, hit in Redis',
    'return-rate': 'nginx, return 200, at the rate',
    'hit-rate': 'ngx-llm, hit in memory, at the rate',
    'miss': 'ngx-llm, miss and store',
    'limits': 'ngx-llm, every limit, in its own memory',
    'exact': 'ngx-llm, every limit, by Redis, exact',
    'leased': 'ngx-llm, every limit, by Redis, leased',
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
    return s.get('what', {}).get(name) or WHAT[name]


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
        cells += [number(row[m]['median']) if m in row else ''
                  for m in metrics]
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
    if 'summary' in s:
        return timed_table(s)

    if 'counts' in s:
        return (['', 'plain nginx', 'ngx-llm', 'ratio'],
                [[row['title'], number(row['plain']), number(row['ours']),
                  '%.3f' % row['ratio']] for row in s['counts'].values()])

    if 'syscalls' in s:
        return (['target', 'calls', 'which'],
                [[WHAT[name], '%.2f' % row['total'],
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
            span(aa.get('interval')), len(s['rounds'])))
    return said + s['notes']


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


def section_md(name, s, pictures):
    lines = ['## ' + s['title'], '']
    if s.get('unit'):
        lines += ['In ' + s['unit'] + '.', '']

    head, rows = table(s)
    if rows:
        lines.append('| ' + ' | '.join(head) + ' |')
        lines.append('|---' + '|--:' * (len(head) - 1) + '|')
        lines += ['| ' + ' | '.join(r) + ' |' for r in rows]
        lines.append('')

    for line in lines_below(s):
        lines += [line, '']
    for path in pictures:
        lines += ['![%s](%s)' % (name, os.path.basename(path)), '']
    return '\n'.join(lines)


def draw(name, s, stem):
    """The pictures of a section; a section may have none."""
    made = {}

    if 'summary' in s:
        gate = s['gate']
        bars = [(what(s, t), row[gate]['median'])
                for t, row in s['summary'].items() if gate in row]
        made[name] = picture.bars(s['title'], s['unit'], bars)

        if 'ours' in s['summary'] or 'hit' in s['summary']:
            dots = []
            for t in s['summary']:
                base = s['summary'][t][gate].get('base')
                if base and t != 'direct':
                    dots.append((what(s, t) + ('' if base == 'plain' else
                                               ' ÷ ' + what(s, base)),
                                 [r[t][gate] / r[base][gate]
                                  for r in s['rounds']],
                                 s['summary'][t][gate].get('interval')))
            made[name + '-rounds'] = picture.dots(
                s['title'], 'ratio to plain nginx, one dot per round', dots)

    if 'counts' in s:
        bars = []
        for row in s['counts'].values():
            bars.append((row['title'] + ', plain', row['plain']))
            bars.append((row['title'] + ', ngx-llm', row['ours']))
        made[name] = picture.bars(s['title'], s['unit'], bars)

    if 'syscalls' in s:
        made[name] = picture.bars(s['title'], s['unit'],
                                  [(WHAT[t], row['total'])
                                   for t, row in s['syscalls'].items()])

    paths = []
    for kind, text in made.items():
        path = '%s-%s.svg' % (stem, kind)
        with open(path, 'w') as f:
            f.write(text)
        paths.append(path)
    return paths


def write(results, folder):
    os.makedirs(folder, exist_ok=True)

    stem = os.path.join(folder, time.strftime('%Y-%m-%d-%H%M%S'))
    m = results['machine']
    lines = ['# ngx-llm beside plain nginx, ' + results['date'], '',
             '%s, %d CPUs, Linux %s, %s, revision %s. Gateway on core %d, '
             'mock on core %d, load on core %d. Load average %.1f before, '
             '%.1f after; seed %d; %d s.' % (
                 m['cpu'], m['cpus'], m['kernel'], m['nginx'],
                 m['revision'], m['cores']['gateway'], m['cores']['mock'],
                 m['cores']['load'], m['load_before'][0],
                 m['load_after'][0], results['seed'], results['seconds']),
             '',
             'bench/README.md tells what was measured and how far to trust '
             'it.', '']

    paths = [stem + '.json', stem + '.md']
    for name, s in results['sections'].items():
        pictures = draw(name, s, stem)
        paths += pictures
        lines.append(section_md(name, s, pictures))

    with open(paths[0], 'w') as f:
        json.dump(results, f, indent=1, ensure_ascii=False)
        f.write('\n')
    with open(paths[1], 'w') as f:
        f.write('\n'.join(lines))
    return paths
