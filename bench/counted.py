"""Sections that count: instructions, system calls and bytes do not depend
on how busy the machine is."""

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import digest
import tasks
from rig import Failure, PATH, SECRET, Skipped, chat, first_event
from timed import CHUNK

FEW, MANY = 100, 600
STREAMS = [1000, 3000]
SIZES = [2048, 20480]
WAITING = 1000
FEW_KEYS, MANY_KEYS = 1000, 100000


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
    cases.insert(1, ('limits', 'full policy, JSON, 2 KB', ['--size', 2048],
                     FEW, MANY, 1, 'plain', 'limits'))

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

    table.update(limiter(rig))
    notes.append('a check is enter and close of the core (bench/limiter.c): '
                 'a slot, requests and tokens per minute')

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


def limiter(rig):
    path = digest.compiled(rig, 'limiter')
    valgrind = need('valgrind')
    out = os.path.join(rig.dir, 'limiter.callgrind')
    few, many = 1000, 11000
    table = {}

    for key, title, args in [
            ('limiter', 'limiter check of a key', ['1', 'key']),
            ('limiter10k', 'the same, 10,000 keys in turn',
             ['10000', 'key']),
            ('limiter-team', 'of key and team', ['1', 'team']),
            ('limiter-all', 'of both, per day and budget, too',
             ['1', 'all'])]:
        spent = []
        for n in (few, many):
            digest.run(rig, [valgrind, '--tool=callgrind', '-q',
                             '--callgrind-out-file=' + out, path, str(n)]
                       + args)
            spent.append(total(out))
        table[key] = {'title': title,
                      'ours': (spent[1] - spent[0]) / (many - few)}
    return table


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


def own(pid, what):
    """What is in /proc/PID/status, in bytes."""
    with open('/proc/%d/status' % pid) as f:
        found = re.search(r'^%s:\s+(\d+) kB' % what, f.read(), re.M)
    return int(found.group(1)) * 1024


def open_stream(gateway, body):
    head = ('POST %s HTTP/1.1\r\nHost: bench\r\n'
            'Authorization: Bearer %s\r\nContent-Type: application/json\r\n'
            'x-mock-chunks: 2\r\nx-mock-pace-ms: 60000\r\n'
            'Content-Length: %d\r\n\r\n' % (PATH, SECRET, len(body)))
    s = socket.create_connection(('127.0.0.1', gateway.port), 10)
    s.sendall(head.encode() + body)
    return s


def grown(gateway, add, counts):
    """RSS of the worker per open request, when there are so many of them."""
    # what the first ones allocate for ever is not theirs
    add(20)
    before, have, each = rss(gateway.worker), 0, []
    for n in counts:
        add(n - have)
        have = n
        time.sleep(0.3)
        each.append((rss(gateway.worker) - before) / n)
    return each


def streams_bytes(rig, kind, body, counts):
    gateway = rig.start(kind, 'rss-' + kind)
    streams = []

    def add(n):
        for _ in range(n):
            streams.append(open_stream(gateway, body))
        for s in streams[-n:]:
            first_event(s)

    try:
        return grown(gateway, add, counts)
    finally:
        for s in streams:
            s.close()
        rig.stop(gateway.process, signal.SIGTERM)


@contextlib.contextmanager
def policy(rig, name, tenants, **replaced):
    """Gateways with other tenants, and something else in the configuration."""
    path = os.path.join(rig.dir, name + '.json')
    with open(path, 'w') as f:
        json.dump(tenants, f)

    written = rig.config

    def config(*args, **more):
        text = written(*args, **more)
        for old, new in replaced.values():
            if text.count(old) != 1:
                raise Failure('config/nginx.conf: no "%s"' % old)
            text = text.replace(old, new)
        return text

    rig.tenants, rig.config = lambda kind: path, config
    try:
        yield
    finally:
        del rig.tenants, rig.config


def digest_of(secret):
    return hashlib.sha256(secret.encode()).hexdigest()


def waiting_bytes(rig, body):
    """One request has the only slot, the others stand in line for it."""
    limits = {'concurrency': 1, 'queue': {'size': WAITING + 100,
                                          'timeout_ms': 600000}}
    keys = {'bench': dict(limits, sha256=digest_of(SECRET))}
    waiting = []

    with policy(rig, 'waiting', {'keys': keys}):
        gateway = rig.start('ours', 'waiting')

    def asked():
        return rig.mock_requests() - before

    def add(n):
        for _ in range(n):
            waiting.append(open_stream(gateway, body))
        # all of them have been read when the last one is in line
        deadline = time.monotonic() + 20
        while in_line(gateway) < len(waiting) - 1:
            if time.monotonic() > deadline:
                raise Failure('of %d requests only %d wait'
                              % (len(waiting) - 1, in_line(gateway)))
            time.sleep(0.1)

    before = rig.mock_requests()
    try:
        waiting.append(open_stream(gateway, body))
        first_event(waiting[0])
        each = grown(gateway, add, [WAITING])[0]
        if asked() != 1:
            raise Failure('%d requests did not wait' % (asked() - 1))
        return each
    finally:
        for s in waiting:
            s.close()
        rig.stop(gateway.process, signal.SIGTERM)


def in_line(gateway):
    """As /metrics tells."""
    with open(os.path.join(gateway.dir, 'nginx.conf')) as f:
        ports = re.findall(r'listen 127\.0\.0\.1:(\d+)', f.read())
    port = next(int(p) for p in ports if int(p) != gateway.port)

    c = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    try:
        c.request('GET', '/metrics')
        found = re.search(r'^llm_slots_waiting (\d+)',
                          c.getresponse().read().decode(), re.M)
        return int(found.group(1))
    finally:
        c.close()


def key_bytes(rig):
    """Shared memory and the worker's own, by the difference of two files."""
    spent = []
    for n in FEW_KEYS, MANY_KEYS:
        keys = {'k%d' % i: {'sha256': digest_of('sk-%d' % i),
                            'team': 't%d' % (i % 100),
                            'requests_per_minute': 60000}
                for i in range(n)}
        keys['bench'] = {'sha256': digest_of(SECRET)}
        teams = {'t%d' % i: {} for i in range(100)}

        with policy(rig, 'keys-%d' % n, {'teams': teams, 'keys': keys},
                    zone=('llm_zone llm 32m', 'llm_zone llm 32m keys=64m')):
            gateway = rig.start('ours', 'keys', seconds=60)
        try:
            spent.append(max(own(pid, 'RssShmem') for pid in
                             (gateway.process.pid, gateway.worker))
                         + own(gateway.worker, 'RssAnon'))
        finally:
            rig.stop(gateway.process, signal.SIGTERM)
    return (spent[1] - spent[0]) / (MANY_KEYS - FEW_KEYS)


def memory(rig, rnd, say, o):
    counts = STREAMS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        counts = [n for n in counts if n * 2 + 200 <= hard]
        if not counts:
            raise Skipped('no more than %d open files' % hard)
    want = counts[-1] * 2 + 200
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))

    table, n = {}, 0
    for size in SIZES:
        body = chat(size, True).encode()
        each = {}
        for kind in ('plain', 'ours'):
            each[kind] = streams_bytes(rig, kind, body, counts)
            n += 1
            say(n, len(SIZES) * 2 + 2)
        for i, count in enumerate(counts):
            plain, ours = each['plain'][i], each['ours'][i]
            table['%d-%d' % (size, count)] = {
                'title': 'open stream, %d KB prompt, of %d'
                         % (size // 1024, count),
                'plain': plain, 'ours': ours, 'ratio': ours / plain}

    table['waiting'] = {'title': 'request in line for a slot, 2 KB prompt, '
                                 'of %d' % WAITING,
                        'ours': waiting_bytes(rig, chat(2048, True).encode())}
    say(n + 1, n + 2)
    table['key'] = {'title': 'key of the tenants file, of %d' % MANY_KEYS,
                    'ours': key_bytes(rig)}
    say(n + 2, n + 2)

    return {'title': 'Memory of what is open and silent, and of keys',
            'unit': 'bytes each, of the worker\'s RSS', 'counts': table,
            'notes': ['a key: in the memory that the workers share, and in a '
                      'worker\'s own']}
