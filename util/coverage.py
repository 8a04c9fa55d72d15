#!/usr/bin/env python3
"""coverage.py NAME UNDER NOT OUT DIR...: sums up by gcov what the objects in
DIR... have counted for the sources below UNDER and not below NOT ("": all),
prints a table, the worst first, and writes the lines that nothing reached to
OUT.  A debug log is no branch of ours."""

import collections
import concurrent.futures
import glob
import json
import os
import subprocess
import sys

name, under, other, out = sys.argv[1:5]
objects = [f for d in sys.argv[5:]
           for f in glob.glob(d + '/**/*.gcda', recursive=True)]
lines = collections.defaultdict(collections.Counter)
branches = collections.defaultdict(collections.Counter)


def counts(file):
    run = subprocess.run(['gcov', '-b', '-t', '--json-format', file],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         check=True)
    return [json.loads(text) for text in run.stdout.splitlines()
            if text.strip()]


def source(file):
    with open(file, encoding='utf-8', errors='replace') as text:
        return text.read().split('\n')


def share(counter):
    total = len(counter)
    reached = sum(1 for n in counter.values() if n)
    return total, total - reached, 100 * reached / total if total else 100


def row(title, of_lines, of_branches):
    print('%-48s %6d %5d %5.1f %%   %6d %5d %5.1f %%'
          % ((title,) + share(of_lines) + share(of_branches)))


with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for document in (d for found in pool.map(counts, objects) for d in found):
        for entry in document['files']:
            file = os.path.join(document['current_working_directory'],
                                entry['file'])

            if not file.startswith(under) or other and file.startswith(other):
                continue

            for line in entry['lines']:
                n = line['line_number']
                lines[file][n] += line['count']

                for i, branch in enumerate(line['branches']):
                    branches[file][n, i] += branch['count']

if not lines:
    sys.exit('nothing was counted below ' + under)

with open(out, 'w', encoding='utf-8') as todo:
    for file in sorted(lines):
        text = source(file) + [''] * max(lines[file])      # it may have changed

        for key in [k for k in branches[file]
                    if 'ngx_log_debug' in text[k[0] - 1]]:
            del branches[file][key]

        for n in sorted(n for n, count in lines[file].items() if not count):
            print('%s:%d: %s' % (file[len(under):], n, text[n - 1]),
                  file=todo)

print('%-48s %6s %5s %7s   %6s %5s' % (name + ', worst first', 'lines', 'open',
                                       '', 'branches', 'open'))

for file in sorted(lines, key=lambda f: share(lines[f])[2]):
    row(file[len(under):], lines[file], branches[file])

row('all of ' + name,
    {(f, n): c for f in lines for n, c in lines[f].items()},
    {(f, n): c for f in branches for n, c in branches[f].items()})
