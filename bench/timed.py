"""Sections that take time: each round runs every target once, in random
order, and counts only against its own round."""

import itertools
import os
import time

import stats
from rig import Failure, cpu_ns, steal_ticks

# Bytes of an event like the providers': about 300 with the envelope.
CHUNK = ['-H', 'x-mock-chunk-bytes: 40']


def sample(rig, gateway, args, per):
    """One run: what the worker spent on it, and what the load saw."""
    mock = cpu_ns(rig.mock.pid)
    cpu = cpu_ns(gateway.worker)
    steal = steal_ticks()
    start = time.monotonic()

    asked = rig.redis_commands() if rig.redis else 0

    seen = rig.load(gateway, args)

    took = time.monotonic() - start
    spent = cpu_ns(gateway.worker) - cpu
    got = {
        'rps': seen['rps'],
        'p50': seen['latency']['p50'],
        'p99': seen['latency']['p99'],
        'ok': seen['ok'],
        'events': seen['events'],
        'util': spent / 1e9 / took,
        'rig_util': seen['cpu_seconds'] / took
                    + (cpu_ns(rig.mock.pid) - mock) / 1e9 / took,
        'steal': (steal_ticks() - steal) / os.sysconf('SC_CLK_TCK'),
        'load': os.getloadavg()[0],
    }
    if rig.redis and gateway.name in ('exact', 'leased'):
        # the two questions are commands too
        got['commands'] = (rig.redis_commands() - asked - 1) / seen['ok']
    if seen.get('ttft') and seen['events']:
        got['ttft'] = seen['ttft']['p50']
        got['ttft_max'] = seen['ttft']['max']
    if seen['late']:
        got['late'] = seen['late']

    if gateway.name != 'direct':
        if seen[per] == 0:
            raise Failure('%s: no %s' % (gateway.name, per))
        got['cpu_us'] = spent / 1e3 / seen[per]
    return got


# whose instance has another name
INSTANCE = {'hit': 'cache', 'hit-rate': 'cache', 'miss': 'cache',
            'kept': 'redis', 'return-rate': 'return'}

# who asks the provider for nothing
HITS = ('hit', 'hit-rate', 'kept')


def hit(rig, gateway, args, per):
    """What was pushed out of the cache meanwhile may be asked for again."""
    before = rig.mock_requests()
    got = sample(rig, gateway, args, per)
    asked = rig.mock_requests() - before
    if asked > got['ok'] / 1000:
        raise Failure('%s: %d of %d were no hits' % (gateway.name, asked,
                                                     got['ok']))
    return got


def paired(rig, rnd, say, names, rounds, args, per='requests',
           warm_up=None):
    """args: of load, the same for all or a function of the target's name."""
    of = args if callable(args) else lambda name: args
    targets = {name: rig.direct() if name == 'direct'
               else rig.instance(INSTANCE.get(name, name))
               for name in names}

    for name in names:
        rig.load(targets[name], warm_up or of(name))

    done = []
    for n in range(rounds):
        order = list(names)
        rnd.shuffle(order)
        done.append({name: hit(rig, targets[name], of(name), per)
                     if name in HITS
                     else sample(rig, targets[name], of(name), per)
                     for name in order})
        say(n + 1, rounds)
    return done


def summary(rounds, names, metrics, bases):
    table = {}
    for name in names:
        row = {}
        base = bases.get(name, 'plain')
        for m in metrics:
            values = [r[name][m] for r in rounds
                      if r[name].get(m) is not None]
            if not values:
                continue
            row[m] = {'median': stats.median(values)}
            if name != base:
                row[m]['base'] = base
                ratio = stats.ratios(rounds, name, base, m)
                if ratio:
                    row[m]['ratio'] = stats.median(ratio)
                    row[m]['interval'] = stats.interval(ratio)
                    row[m]['added'] = stats.median(
                        stats.differences(rounds, name, base, m))
                    row[m]['added_interval'] = stats.interval(
                        stats.differences(rounds, name, base, m))
        table[name] = row
    return table


def result(title, rounds, names, metrics, gate, unit, bases=None):
    table = summary(rounds, names, metrics, bases or {})
    aa = table['twin'].get(gate, {}).get('interval')
    notes = []

    # the capacity is then 1 / CPU per request, not the rps seen
    for name in names:
        if name.endswith('-rate'):
            continue
        util = stats.median([r[name]['util'] for r in rounds])
        busy = stats.median([r[name]['rig_util'] for r in rounds])
        if 'rps' in metrics and name != 'direct' \
                and (util < 0.95 or busy > 0.95):
            notes.append('%s: rps is bound by the rig (gateway %.2f, mock '
                         'and load %.2f of a core)' % (name, util, busy))

    steal = sum(r[name]['steal'] for r in rounds for name in names)
    if steal > 0.5:
        notes.append('%.1f s stolen by the hypervisor' % steal)

    return {'title': title, 'unit': unit, 'gate': gate,
            'verdict': stats.verdict(aa), 'summary': table,
            'notes': notes, 'rounds': rounds}


def json_calls(rig, rnd, say, o):
    names = ['plain', 'twin', 'ours', 'shipped']
    args = ['-c', 32, '-d', o.seconds, '--size', 1024]
    rounds = paired(rig, rnd, say, names, o.rounds or 15, args,
                    warm_up=['-c', 32, '-d', 1, '--size', 1024])
    return result('JSON: 1 KB body, closed loop, 32 connections', rounds,
                  names, ['cpu_us', 'rps', 'p50'], 'cpu_us',
                  'µs of CPU per request')


def limits(rig, rnd, say, o):
    names = ['plain', 'twin', 'limits', 'exact', 'leased']
    args = ['-c', 32, '-d', o.seconds, '--size', 1024]
    rounds = paired(rig, rnd, say, names, o.rounds or 15, args,
                    warm_up=['-c', 32, '-d', 1, '--size', 1024])
    return result('Limits: requests, tokens, days, money and slots of key '
                  'and team; alone, by Redis exactly, by Redis in chunks',
                  rounds, names, ['cpu_us', 'rps', 'p50', 'commands'],
                  'cpu_us', 'µs of CPU per request')


def paced(rig, rnd, say, o):
    names = ['plain', 'twin', 'ours']
    args = ['--stream', '-c', 100, '-n', 100, '--size', 1024,
            '-H', 'x-mock-chunks: 50', '-H', 'x-mock-pace-ms: 20'] + CHUNK
    rounds = paired(rig, rnd, say, names, o.rounds or 9, args, 'events')
    return result('SSE paced: 100 streams, an event each 20 ms', rounds,
                  names, ['cpu_us', 'ttft'], 'cpu_us',
                  'µs of CPU per event')


def flood(rig, rnd, say, o):
    names = ['plain', 'twin', 'ours']
    args = ['--stream', '-c', 16, '-d', min(o.seconds, 1), '--size', 1024,
            '-H', 'x-mock-chunks: 64'] + CHUNK
    rounds = paired(rig, rnd, say, names, o.rounds or 9, args, 'events')
    return result('SSE flood: 16 connections, 64 events at once', rounds,
                  names, ['cpu_us'], 'cpu_us', 'µs of CPU per event')


def ttft(rig, rnd, say, o):
    names = ['direct', 'plain', 'twin', 'ours']
    args = ['--stream', '-c', 32, '-r', 200, '-d', min(o.seconds, 1),
            '--size', 1024]
    rounds = paired(rig, rnd, say, names, o.rounds or 9, args)
    got = result('Time to the first event: 200 streams a second, constant '
                 'rate', rounds, names, ['ttft'], 'ttft', 'µs, p50')

    # an answer that waits for a delayed acknowledgement takes 40 ms
    for name in names:
        slow = stats.median([r[name]['ttft_max'] for r in rounds])
        if slow > 30000:
            got['notes'].append('%s: the slowest first event of a round '
                                'took %.0f ms (median of the rounds)'
                                % (name, slow / 1000))
    return got


def latency(rig, rnd, say, o):
    names = ['direct', 'plain', 'twin', 'ours']
    args = ['-c', 32, '-r', 1000, '-d', min(o.seconds, 1), '--size', 1024]
    rounds = paired(rig, rnd, say, names, o.rounds or 9, args)
    return result('Latency: 1 KB body, 1000 requests a second, constant '
                  'rate', rounds, names, ['p50', 'cpu_us'], 'p50',
                  'µs, p50')


# of the ratios to their bases
GOALS = {'hit-rate': 1.4, 'hit': 1.4, 'kept': 1.0, 'miss': 1.7}

# so many different answers are in Redis, and so many are asked for
KEPT = 10000

# Two that are faster than the load leave it asleep in turns, and waking it is
# charged to them: at one rate they are charged alike.
RATE = 20000


def cache(rig, rnd, say, o):
    names = ['plain', 'twin', 'return', 'hit', 'return-rate', 'hit-rate',
             'kept', 'miss']

    # load counts its unique bodies from 0 in every run: another model makes
    # them new to the cache, the same one finds them again
    models = itertools.count()

    def args(name):
        base = ['-c', 32, '--size', 1024]
        if name == 'kept':
            return base + ['--unique', '--model', 'kept', '-n', KEPT]
        if name == 'miss':
            base += ['--unique', '--model', 'miss-%d' % next(models)]
        if name.endswith('-rate'):
            base += ['-r', RATE]
        return base + ['-d', min(o.seconds, 1)]

    for name in ('cache', 'redis'):
        gateway = rig.instance(name)
        for _ in range(2):
            headers = rig.ask(gateway)[1]
            time.sleep(0.1)
        if 'hit' not in headers.get('Cache-Status', ''):
            raise Failure('%s: a repeated request is no cache hit: %s'
                          % (name, headers))

    # the warm-up of "kept" stores them
    rounds = paired(rig, rnd, say, names, o.rounds or 9, args)

    got = result('Cache: a hit in memory beside the same answer in the '
                 'configuration, a hit in Redis, a miss that is stored',
                 rounds, names, ['cpu_us', 'rps', 'p50'], 'cpu_us',
                 'µs of CPU per request',
                 {'hit': 'return', 'hit-rate': 'return-rate',
                  'return-rate': 'return-rate'})
    got['notes'].append('at the rate: %d requests a second, which the two '
                        'are to be compared at' % RATE)
    for name, most in GOALS.items():
        if got['summary'][name]['cpu_us']['ratio'] > most:
            got['notes'].append('%s: the goal is at most %.1f'
                                % (name, most))
    return got
