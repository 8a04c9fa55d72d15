"""Curves of several gateways that share the limits in one Redis."""

import json
import os
import statistics
import subprocess
import time

from bed import cpu_ns, digest, Failure, secret, until
from client import PATH
from many import points, rows_of, say

RATE = 800               # requests a second, of all gateways together
SECONDS = 4
ROUNDS = 3
AHEAD = 1.0              # s, of the leased mode

# what a key that is asked for twice as much may have
TIGHT, BURST = 300, 300


def tenants():
    much = {'requests_per_minute': 100000000, 'tokens_per_minute': 10 ** 12,
            'concurrency': 5000}
    return {'teams': {'t': much, 'u': {}}, 'keys': {
        'much': dict(much, team='t', sha256=digest('much')),
        'tight': {'team': 'u', 'sha256': digest('tight'),
                  'requests_per_minute': TIGHT * 60,
                  'burst_requests': BURST}}}


def load(bed, gateways, key, rate, seconds):
    """At a constant rate, the same at each gateway; without one, as fast as
    answers come.  (good answers, seconds from the first start to the last
    end)."""
    start = time.monotonic()
    paced = ['-r', '%g' % (rate / len(gateways))] if rate else []
    running = [subprocess.Popen(
        [os.path.join(bed.build, 'load'), '-c', '32', '-d', '%g' % seconds]
        + paced + ['-H', 'Authorization: Bearer ' + secret(key),
                   'http://127.0.0.1:%d%s' % (g.port, PATH)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True) for g in gateways]
    said = []
    for process in running:
        out, error = process.communicate(timeout=seconds + 60)
        if not out.strip():
            raise Failure('load: ' + error)
        said.append(json.loads(out))
    for one in said:
        errors = {k: n for k, n in one['errors'].items() if n}
        if set(errors) - ({'status'} if key == 'tight' else set()):
            raise Failure('load: %s' % errors)
    return sum(one['ok'] for one in said), time.monotonic() - start


class Measured:
    """What Redis does during a run: scripts, µs of each by its own account,
    all commands, µs of its process."""

    def __init__(self, redis, run):
        calls, took = redis.scripts()
        total, spent = redis.total(), cpu_ns(redis.process.pid)
        self.got = run()
        self.cpu = (cpu_ns(redis.process.pid) - spent) / 1e3
        self.commands = redis.total() - total
        self.scripts, self.script = redis.scripts()
        self.scripts -= calls
        self.script = (self.script - took) / max(1, self.scripts)


def fleet(bed, n, mode):
    """A row of the table."""
    redis = bed.redis('redis-%s-%d' % (mode, n))
    upstream = bed.mock()
    # each gateway counts the others by what Redis told it
    all_of_them = [bed.gateway(
        'fleet', tenants(), mock=upstream,
        redis='unix:%s timeout=500ms limits=%s ahead=%dms gateways=%d'
        % (redis.path, mode, AHEAD * 1000, n)) for _ in range(n)]
    until(lambda: len(redis.command('ZRANGE', '{llm}:g', 0, -1)) == n, 20,
          'gateways')
    load(bed, all_of_them, 'much', RATE, 1)

    time.sleep(2.5)
    m = Measured(redis, lambda: time.sleep(3))
    row = {'idle': m.commands / 3 / n, 'idle_cpu': m.cpu / 3 / n}

    rounds = []
    for _ in range(ROUNDS):
        m = Measured(redis, lambda: load(bed, all_of_them, 'much', RATE,
                                         SECONDS))
        good = m.got[0]
        rounds.append((m.scripts / good, m.script, m.cpu / good))
    for i, name in enumerate(('scripts', 'script', 'cpu')):
        row[name] = statistics.median(r[i] for r in rounds)

    # what is asked at a time shares scripts
    m = Measured(redis, lambda: load(bed, all_of_them, 'much', 0, SECONDS))
    good, took = m.got
    row['full'] = m.cpu / good
    row['full_scripts'] = m.scripts / good
    row['rate'] = good / took

    # twice of what the key may
    good, seconds = load(bed, all_of_them, 'tight', TIGHT * 2, SECONDS)
    row['admitted'] = good / (BURST + TIGHT * seconds)
    row['above'] = good - BURST - TIGHT * seconds
    row['bound'] = TIGHT * AHEAD if mode == 'leased' else 0

    for g in all_of_them:
        g.stop()
    bed.stop(redis.process)
    say('%s, %d: ' % (mode, n) + ', '.join('%s %.2f' % x
                                           for x in row.items()))
    return row


def gateways(bed, o):
    ns = points(o, 1, 2, 4, 8)
    names = ('scripts', 'script', 'cpu', 'idle', 'idle_cpu', 'admitted', 'above',
             'full', 'full_scripts', 'rate')
    table = {}
    for mode in ('exact', 'leased'):
        for n in ns:
            row = fleet(bed, n, mode)
            if row['above'] > row['bound'] + 1:
                raise Failure('%s, %d gateways: %d admitted too many'
                              % (mode, n, row['above']))
            for name in names:
                table.setdefault(mode + '_' + name, {})[n] = row[name]
    return {
        'title': 'Gateways on one Redis: %d requests a second' % RATE,
        'of': 'gateways', 'unit': 'µs of Redis\' CPU per request',
        'lines': {'exact_cpu': 'exact', 'leased_cpu': 'leased'},
        'columns': {
            'exact_scripts': 'exact: scripts per request',
            'exact_script': 'µs per script',
            'exact_cpu': 'Redis, µs per request',
            'exact_full': 'at full load',
            'exact_admitted': 'admitted of allowed',
            'leased_scripts': 'leased: scripts per request',
            'leased_script': 'µs per script',
            'leased_cpu': 'Redis, µs per request',
            'leased_full': 'at full load',
            'leased_admitted': 'admitted of allowed',
            'leased_idle': 'idle: commands a second and gateway',
            'leased_idle_cpu': 'idle: Redis, µs a second and gateway'},
        'rows': rows_of(list(table), ns, table),
        'flat': {},
    }


# one script, while Redis knows of many gateways

def known(bed, o):
    ns = points(o, 1, 10, 100, 1000)
    table = {'script': {}, 'cpu': {}, 'second': {}}

    for n in ns:
        redis = bed.redis('redis-known-%d' % n)
        g = bed.gateway('known', tenants(),
                        redis='unix:%s timeout=500ms limits=leased '
                        'gateways=%d' % (redis.path, n))
        until(lambda: redis.command('ZCARD', '{llm}:g') == '1', 20,
              'a gateway')
        load(bed, [g], 'much', RATE, 1)

        # they are alive for ever, and each has a slot of key and team
        for i in range(n - 1):
            other = '%016x' % i
            redis.command('ZADD', '{llm}:g', 10 ** 15, other)
            for name in ('k:much', 't:t'):
                redis.command('HSET', '{llm}:s:' + name, other, '1 1 0')

        rounds = []
        for _ in range(ROUNDS):
            m = Measured(redis, lambda: load(bed, [g], 'much', RATE,
                                             SECONDS))
            rounds.append((m.script, m.cpu / m.scripts,
                           m.scripts / m.got[1]))
        for i, name in enumerate(table):
            table[name][n] = statistics.median(r[i] for r in rounds)
        g.stop()
        bed.stop(redis.process)
        say('%d known: ' % n + ', '.join('%s %.1f' % (k, v[n])
                                         for k, v in table.items()))
    return {
        'title': 'Gateways that one Redis knows of: one script',
        'of': 'gateways', 'unit': 'µs of Redis per script, leased',
        'lines': {'script': 'of the script', 'cpu': 'of the process'},
        'columns': {'script': 'µs of the script',
                    'cpu': 'µs of the process per script',
                    'second': 'scripts a second and gateway'},
        'rows': rows_of(list(table), ns, table),
        'flat': {},
    }
