"""The section "How fast" of README.md, from the results that are there."""

import json
import os
import sys

import goals
import report
from rig import TOP

BEGIN = '<!-- by "bench/run --readme", from bench/results/results.json -->'
END = '<!-- end of what bench/run writes -->'


def section(folder):
    with open(os.path.join(folder, 'results.json')) as f:
        results = json.load(f)

    here = os.path.relpath(folder, TOP)
    m = results['machine']
    lines = ['`make bench` measures ngx-llm beside plain nginx, in '
             'alternating rounds with a second plain nginx as the control. '
             'On %s, %s (%d CPUs%s), %s, revision %s:' % (
                 results['date'][:10], m['cpu'], m['cpus'],
                 ', a virtual machine' if m.get('virtual') else '',
                 m['nginx'], m['revision']), '']
    lines += report.markdown(*goals.table(results))
    if os.path.exists(os.path.join(folder, 'overview.svg')):
        lines += ['![CPU time beside plain nginx](%s/overview.svg)' % here,
                  '']

    peers = results['sections'].get('peers', {})
    head, rows = report.table(peers)
    if rows:
        lines += ['Others on the same machine in the same run, with the same '
                  'mock provider ([bench/README.md](bench/README.md) tells their '
                  'settings):',
                  ''] + report.markdown(head, rows)
        if os.path.exists(os.path.join(folder, 'peers.svg')):
            lines += ['![Other gateways](%s/peers.svg)' % here, '']

    lines.append('[All of it](%s/results.md); [what is measured, and how far '
                 'to trust it](bench/README.md).' % here)
    return lines


def write(folder, path=os.path.join(TOP, 'README.md')):
    with open(path) as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit('%s: not one "%s" and one "%s"' % (path, BEGIN, END))
    if not os.path.exists(os.path.join(folder, 'results.json')):
        sys.exit('%s: no results.json: make bench' % folder)

    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    text = before + '\n'.join([BEGIN, ''] + section(folder)
                              + ['', END]) + after
    with open(path, 'w') as f:
        f.write(text)
    print(os.path.relpath(path))
    return 0
