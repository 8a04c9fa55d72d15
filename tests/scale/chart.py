"""Curves as SVG, tables in docs/scaling.md, and what has to be flat."""

import json
import math
import os
import platform
import re
import subprocess
import time
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 84, 40, 106, 48
COLOURS = ['#1f6feb', '#bc4c00', '#1a7f37', '#8250df', '#9a6700']
GREY = '#57606a'
LINE = '#d0d7de'


def machine(nginx):
    model = 'unknown'
    with open('/proc/cpuinfo') as f:
        found = re.search(r'^model name\s*: (.*)', f.read(), re.M)
        if found:
            model = found[1]
    said = subprocess.run([nginx, '-v'], capture_output=True).stderr
    redis = subprocess.run(['redis-server', '--version'],
                           capture_output=True).stdout
    return {'date': time.strftime('%Y-%m-%d'), 'cpu': model,
            'cpus': os.cpu_count(), 'kernel': platform.release(),
            'nginx': said.decode().strip().split('/')[-1],
            'redis': re.sub(r'.*v=(\S+).*', r'\1', redis.decode().strip()),
            'load': round(os.getloadavg()[0], 1)}


def number(x):
    if x is None:
        return '–'
    if abs(x) >= 1000:
        return '{:,}'.format(round(x))
    if abs(x) >= 100 or x == int(x):
        return '%d' % round(x)
    return '%.1f' % x if abs(x) >= 10 else '%.2f' % x


def ticks(most):
    """Round steps from 0 to what is at least the most."""
    step = 10 ** math.floor(math.log10(most))
    while most / step < 4:
        step /= 2
    n = math.ceil(most / step - 1e-9)
    return [i * step for i in range(n + 1)]


def svg(got):
    rows, lines = got['rows'], got['lines']
    ns = [row['n'] for row in rows]
    values = [row[k] for row in rows for k in lines
              if row.get(k) is not None]
    up = ticks(max(values))

    def x(n):
        low, high = math.log(ns[0]), math.log(ns[-1])
        return LEFT + (math.log(n) - low) / ((high - low) or 1) \
            * (WIDTH - LEFT - RIGHT)

    def y(v):
        return HEIGHT - BOTTOM - v / up[-1] * (HEIGHT - TOP - BOTTOM)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" '
             'height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
             'font-size="13">' % (WIDTH, HEIGHT, WIDTH, HEIGHT),
             '<rect width="100%" height="100%" fill="#ffffff"/>',
             '<text x="16" y="24" font-size="15" font-weight="bold">%s'
             '</text>' % escape(got['title']),
             '<text x="16" y="44" fill="%s">%s</text>'
             % (GREY, escape(got['unit']))]

    for v in up:
        parts += ['<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>'
                  % (LEFT, y(v), WIDTH - RIGHT, y(v), LINE),
                  '<text x="%d" y="%.1f" text-anchor="end" fill="%s">%s'
                  '</text>' % (LEFT - 8, y(v) + 4, GREY, number(v))]
    for n in ns:
        parts.append('<text x="%.1f" y="%d" text-anchor="middle" fill="%s">'
                     '%s</text>' % (x(n), HEIGHT - BOTTOM + 20, GREY,
                                    '{:,}'.format(n)))
    parts.append('<text x="%d" y="%d" text-anchor="end" fill="%s">%s</text>'
                 % (WIDTH - RIGHT, HEIGHT - 8, GREY, escape(got['of'])))

    at, line = 16, 60
    for colour, (key, label) in zip(COLOURS, lines.items()):
        there = [(x(row['n']), y(row[key])) for row in rows
                 if row.get(key) is not None]
        parts.append('<polyline points="%s" fill="none" stroke="%s" '
                     'stroke-width="2"/>' % (' '.join(
                         '%.1f,%.1f' % p for p in there), colour))
        parts += ['<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>'
                  % (px, py, colour) for px, py in there]
        if at + 18 + 7 * len(label) > WIDTH:
            at, line = 16, line + 18
        parts += ['<rect x="%d" y="%d" width="12" height="12" fill="%s"/>'
                  % (at, line, colour),
                  '<text x="%d" y="%d">%s</text>' % (at + 18, line + 11,
                                                     escape(label))]
        at += 40 + 7 * len(label)
    return '\n'.join(parts + ['</svg>', ''])


def table(got):
    columns = got['columns']
    out = ['| %s | %s |' % (got['of'], ' | '.join(columns.values())),
           '|' + '--:|' * (len(columns) + 1)]
    for row in got['rows']:
        out.append('| {:,} | '.format(row['n']) + ' | '.join(
            number(row.get(k)) for k in columns) + ' |')
    m = got['machine']
    out += ['', '%s; %d × %s, nginx %s, Redis %s.' % (
        m['date'], m['cpus'], m['cpu'], m['nginx'], m['redis'])]
    return '\n'.join(out)


def write(name, got, out):
    folder = os.path.join(out, 'scaling')
    os.makedirs(folder, exist_ok=True)
    paths = []
    for kind, text in (('json', json.dumps(got, indent=1) + '\n'),
                       ('svg', svg(got))):
        paths.append(os.path.join(folder, '%s.%s' % (name, kind)))
        with open(paths[-1], 'w') as f:
            f.write(text)

    text = table(got)
    print(text, flush=True)
    page = os.path.join(out, 'scaling.md')
    if os.path.exists(page):
        with open(page) as f:
            old = f.read()
        new = re.sub(r'(<!-- %s -->\n).*?(<!-- end -->\n)' % name,
                     lambda m: m[1] + '\n' + text + '\n\n' + m[2], old,
                     flags=re.S)
        if new != old:
            with open(page, 'w') as f:
                f.write(new)
            paths.append(page)
    return paths


def judge(name, got):
    """1 if something that has to be flat is not."""
    bad = 0
    for key, most in got['flat'].items():
        values = [row[key] for row in got['rows']
                  if row.get(key) is not None]
        ratio = max(values) / values[0] if values else 1
        good = ratio <= most
        bad |= not good
        print('%s - %s: %s is flat: %.3f of the first point at most (%.2f)'
              % ('ok' if good else 'not ok', name, key, ratio, most),
              flush=True)
    return int(bad)
