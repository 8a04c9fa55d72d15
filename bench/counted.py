"""Sections that count: instructions, system calls and bytes do not depend
on how busy the machine is."""

import itertools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import tasks
from rig import Failure, PATH, SECRET, Skipped
from timed import CHUNK

FEW, MANY = 100, 600
STREAMS = 1000


def need(tool):
    path = shutil.which(tool)
    if path is None:
        raise Skipped('no ' + tool)
    return path


# instructions

def callgrind(rig, kind, args):
    """The file in which callgrind counted a whole life of nginx.  args: of
    load, or a function that asks the gateway instead."""
    tool = [need('valgrind'), '--tool=callgrind', '-q',
            '--callgrind-out-file=callgrind.out']
    gateway = rig.start(kind, 'callgrind-' + kind, tool, seconds=60)
    try:
        if callable(args):
            args(gateway)
        else:
            rig.load(gateway, args + ['--timeout', 60000], seconds=120)
    finally:
        ended = rig.stop(gateway.process, signal.SIGQUIT, 3, 10)

    path = os.path.join(gateway.dir, 'callgrind.out')
    if not ended or not os.path.exists(path):
        raise Failure('callgrind (%s) left no result' % kind)
    return path


def total(path):
    with open(path, errors='replace') as f:
        found = re.findall(r'^(?:summary|totals): (\d+)', f.read(), re.M)
    if not found:
        raise Failure('%s: no total' % path)
    return int(found[-1])


def difference(rig, kind, more, few=FEW, many=MANY):
    """Per request, without start, end and the first connections.  more: of
    load, or a function that is asked for each run."""
    of = more if callable(more) else lambda: more
    spent = [total(callgrind(rig, kind, ['-c', 1, '-n', n] + of()))
             for n in (few, many)]
    return (spent[1] - spent[0]) / (many - few)


def instructions(rig, rnd, say, o):
    cases = [
        ('json', 'JSON, 1 KB', ['--size', 1024], FEW, MANY, 1),
        ('json20', 'JSON, 20 KB', ['--size', 20480], FEW, MANY, 1),
        ('event', 'paced event',
         ['--stream', '--size', 1024, '-H', 'x-mock-chunks: 50',
          '-H', 'x-mock-pace-ms: 2'] + CHUNK, 5, 25, 52),
    ]
    notes = ['an event is a share of its stream: 50 contents, a role and '
             'an end']
    cases = [case + ('plain', 'ours') for case in cases]

    if shutil.which('redis-server'):
        cases += cache_cases(rig)
        notes.append('a hit in memory is beside "return 200" with the same '
                     'answer')

    table, n = {}, 0
    for key, title, more, few, many, per, plain, ours in cases:
        row = {'title': title}
        for name, kind in (('plain', plain), ('ours', ours)):
            row[name] = difference(rig, kind, more, few, many) / per
            n += 1
            say(n, len(cases) * 2)
        row['ratio'] = row['ours'] / row['plain']
        table[key] = row

    if shutil.which('redis-server'):
        table['task'] = task(rig, table['json']['plain'])
        notes.append('a task is beside a request of 1 KB')

    return {'title': 'User-space instructions (callgrind)',
            'unit': 'instructions per request or event', 'counts': table,
            'notes': notes}


def task(rig, plain):
    """Submitted, run and fetched, in calls of many."""
    spent = [total(callgrind(rig, 'counted', lambda gateway, n=n:
                             tasks.all_of(rig, gateway, 'counted', n)))
             for n in (FEW, MANY)]
    ours = (spent[1] - spent[0]) / (MANY - FEW)
    return {'title': 'task, submitted, run and fetched', 'plain': plain,
            'ours': ours, 'ratio': ours / plain}


def cache_cases(rig):
    one = ['--size', 1024]
    kept = one + ['--unique', '--model', 'counted']
    models = itertools.count()

    # what is looked for in Redis has to be there
    rig.load(rig.instance('redis'), ['-c', 1, '-n', MANY] + kept)

    return [
        ('hit', 'hit in memory, 1 KB', one, FEW, MANY, 1, 'return', 'cache'),
        ('kept', 'hit in Redis, 1 KB', kept, FEW, MANY, 1, 'plain', 'redis'),
        ('miss', 'miss and store, 1 KB',
         lambda: one + ['--unique', '--model', 'new-%d' % next(models)],
         FEW, MANY, 1, 'plain', 'cache'),
    ]


# where they go

LINE = re.compile(r'^\s*([\d,]+) \([^)]*\)\s+(\S+?):(\S+)')


def functions(path, inclusive):
    said = subprocess.run(
        [need('callgrind_annotate'), '--threshold=100', '--auto=no',
         '--inclusive=' + ('yes' if inclusive else 'no'), path],
        capture_output=True, timeout=60).stdout.decode(errors='replace')
    spent = {}
    for line in said.splitlines():
        found = LINE.match(line)
        if found:
            name = found.group(3).split("'")[0]
            n = int(found.group(1).replace(',', ''))
            if inclusive:
                spent[name] = max(spent.get(name, 0), n)
            else:
                spent[name] = spent.get(name, 0) + n
    return spent


def calls(path, names):
    """How often each of these functions was called."""
    numbers = {}
    counted = dict.fromkeys(names, 0)
    callee = None
    with open(path, errors='replace') as f:
        for line in f:
            if line.startswith('cfn=') or line.startswith('fn='):
                found = re.match(r'c?fn=\((\d+)\)(?: (\S+))?', line)
                if found and found.group(2):
                    numbers[found.group(1)] = found.group(2).split("'")[0]
                if line.startswith('cfn=') and found:
                    callee = numbers.get(found.group(1))
            elif line.startswith('calls=') and callee in counted:
                counted[callee] += int(line[6:].split()[0])
    return counted


COUNTED = ['malloc', 'calloc', 'posix_memalign', 'memalign', 'free',
           'ngx_palloc', 'ngx_pnalloc', 'ngx_pcalloc',
           'ngx_palloc_large', 'ngx_create_pool', 'ngx_palloc_block']


def profile(rig, rnd, say, o):
    """For whoever makes it faster; names need an nginx with symbols."""
    parts, counts = {}, {}
    for i, kind in enumerate(('plain', 'ours')):
        paths = [callgrind(rig, kind, ['-c', 1, '-n', n, '--size', 1024])
                 for n in (FEW, MANY)]
        for way in (False, True):
            few, many = [functions(p, way) for p in paths]
            parts[kind, way] = {
                name: (many[name] - few.get(name, 0)) / (MANY - FEW)
                for name in many}
        few, many = [calls(p, COUNTED) for p in paths]
        counts[kind] = {name: (many[name] - few[name]) / (MANY - FEW)
                        for name in COUNTED}
        say(i + 1, 2)

    rows = []
    for name, n in parts['ours', True].items():
        if n >= 50:
            rows.append({'function': name, 'inclusive': n,
                         'self': parts['ours', False].get(name, 0),
                         'plain': parts['plain', True].get(name, 0),
                         'plain_self': parts['plain', False].get(name, 0)})
    rows.sort(key=lambda row: -row['inclusive'])
    return {'title': 'Where the instructions go (1 KB, per request)',
            'unit': 'instructions', 'profile': rows, 'calls': counts,
            'notes': []}


# system calls

STRACE = re.compile(r'^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$')


def traced(rig, gateway, args):
    out = os.path.join(rig.dir, 'strace.out')
    log = os.path.join(rig.dir, 'strace.log')
    for path in (out, log):
        with open(path, 'w'):
            pass

    tracer = rig.spawn([need('strace'), '-c', '-p', str(gateway.worker),
                        '-o', out], rig.load_core, log)
    try:
        time.sleep(0.5)
        if tracer.poll() is not None:
            with open(log, errors='replace') as f:
                raise Skipped('strace: ' + f.read().strip()[:200])
        rig.load(gateway, args)
    finally:
        rig.stop(tracer, signal.SIGINT)

    counted = {}
    with open(out) as f:
        for line in f:
            found = STRACE.match(line.rstrip())
            if found and found.group(2) != 'total':
                counted[found.group(2)] = int(found.group(1))
    if not counted:
        raise Skipped('strace counted nothing')
    return counted


def syscalls(rig, rnd, say, o):
    table, n = {}, 0
    names = ['plain', 'ours', 'shipped', 'return']
    if shutil.which('redis-server'):
        names.append('cache')

    need('strace')

    for name in names:
        gateway = rig.instance(name)
        rig.ask(gateway)
        few, many = [traced(rig, gateway, ['-c', 1, '-n', k,
                                           '--size', 1024])
                     for k in (FEW, MANY)]
        row = {call: (many.get(call, 0) - few.get(call, 0)) / (MANY - FEW)
               for call in set(few) | set(many)}
        row = {call: v for call, v in sorted(row.items()) if v > 0.005}
        table['hit' if name == 'cache' else name] = {
            'total': sum(row.values()), 'calls': row}
        n += 1
        say(n, len(names))

    return {'title': 'System calls per request (strace, one connection)',
            'unit': 'calls per request', 'syscalls': table, 'notes': []}


# memory

def rss(pid):
    with open('/proc/%d/smaps_rollup' % pid) as f:
        found = re.search(r'^Rss:\s+(\d+) kB', f.read(), re.M)
    return int(found.group(1)) * 1024


def open_stream(gateway, body):
    head = ('POST %s HTTP/1.1\r\nHost: bench\r\n'
            'Authorization: Bearer %s\r\nContent-Type: application/json\r\n'
            'x-mock-chunks: 2\r\nx-mock-pace-ms: 60000\r\n'
            'Content-Length: %d\r\n\r\n' % (PATH, SECRET, len(body)))
    s = socket.create_connection(('127.0.0.1', gateway.port), 10)
    s.sendall(head.encode() + body)
    return s


def first_event(s):
    seen = b''
    while b'data:' not in seen:
        got = s.recv(65536)
        if not got:
            raise Failure('a stream ended before its first event: %r'
                          % seen[:200])
        seen += got
    if not seen.startswith(b'HTTP/1.1 200'):
        raise Failure('a stream was refused: %r' % seen[:200])


def stream_bytes(rig, kind, body, count):
    gateway = rig.start(kind, 'rss-' + kind)
    streams = []
    try:
        # what the first streams allocate for ever is not theirs
        for n in (20, count):
            before = rss(gateway.worker)
            for _ in range(n):
                streams.append(open_stream(gateway, body))
            for s in streams[-n:]:
                first_event(s)
            time.sleep(0.3)
            each = (rss(gateway.worker) - before) / n
        return each
    finally:
        for s in streams:
            s.close()
        rig.stop(gateway.process, signal.SIGTERM)


def memory(rig, rnd, say, o):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = STREAMS * 2 + 200
    if soft < want:
        if hard != resource.RLIM_INFINITY and hard < want:
            raise Skipped('no more than %d open files' % hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))

    table, n = {}, 0
    for size in (2048, 20480):
        row = {'title': '%d KB prompt' % (size // 1024)}
        text = 'x' * (size - 90)
        body = ('{"model":"gpt-4o","stream":true,"messages":[{"role":"user",'
                '"content":"%s"}]}' % text).encode()
        for kind in ('plain', 'ours'):
            row[kind] = stream_bytes(rig, kind, body, STREAMS)
            n += 1
            say(n, 4)
        row['ratio'] = row['ours'] / row['plain']
        table[str(size)] = row

    return {'title': 'Memory of an open stream that is silent (%d of them)'
                     % STREAMS,
            'unit': 'bytes of the worker\'s RSS per stream',
            'counts': table, 'notes': []}
