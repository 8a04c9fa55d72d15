"""Sections that take time: each round runs every target once, in random
order, and counts only against its own round."""

import itertools
import os
import time

import goals
import stats
from rig import Failure, HTTP2, TLS, awake, steal_ticks

# Bytes of an event like the providers': about 300 with the envelope.
CHUNK = ['-H', 'x-mock-chunk-bytes: 40']

# A role, an end and [DONE] come on top of the contents.
AROUND = 3

# what an answer must have, and a first event later than this has waited for a
# delayed acknowledgement (40 ms)
GOOD = ['--expect', '"finish_reason":"stop"']
SLOW_US = 30000


def sample(rig, gateway, args, per, events=None):
    """One run: what the worker spent on it, and what the load saw.  events:
    of each stream, all of which have to come."""
    mock = rig.mock_ns()
    cpu = gateway.cpu_ns()
    steal = steal_ticks()
    asked = rig.redis_commands() if rig.redis else 0

    seen = rig.load(gateway, args)

    # without what it takes to start the load
    took = seen['seconds']
    spent = gateway.cpu_ns() - cpu
    got = {
        'rps': seen['rps'],
        'p50': seen['latency']['p50'],
        'p99': seen['latency']['p99'],
        'ok': seen['ok'],
        'events': seen['events'],
        'util': spent / 1e9 / took,
        'rig_util': seen['cpu_seconds'] / took
                    + (rig.mock_ns() - mock) / 1e9 / took,
        'steal': (steal_ticks() - steal) / os.sysconf('SC_CLK_TCK'),
        'load': os.getloadavg()[0],
    }
    if rig.redis and gateway.name in ('exact', 'leased'):
        # the two questions are commands too
        got['commands'] = (rig.redis_commands() - asked - 1) / seen['ok']
    if events:
        if not gateway.http2 and seen['events'] != seen['ok'] * events:
            raise Failure('%s: %d events of %d streams, not %d of each' % (
                gateway.name, seen['events'], seen['ok'], events))
        seen['events'] = seen['ok'] * events
    if seen.get('ttft') and seen['events']:
        got['ttft'] = seen['ttft']['p50']
        got['ttft_max'] = seen['ttft']['max']
        got['ttft_slow'] = seen.get('ttft_over', {}).get(str(SLOW_US), 0)
        got['ttft_count'] = seen['ttft']['count']
    for name in ('transit', 'lag'):
        if seen.get(name):
            got[name] = seen[name]['p50']
    if seen['late']:
        got['late'] = seen['late']

    if gateway.name != 'direct':
        if seen[per] == 0:
            raise Failure('%s: no %s' % (gateway.name, per))
        got['cpu_us'] = spent / 1e3 / seen[per]
        got['capacity'] = seen['ok'] / (spent / 1e9)
    return got


# By where a process happens to have its memory it costs a percent or two more
# or less for as long as it lives: so many rounds.
LIFE = 5

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
           warm_up=None, life=None, suffix='', events=None, gate=None, o=None):
    """args: of load, the same for all or a function of the target's name.
    life: after so many rounds the gateways are started anew and warmed up, as
    at the beginning, by warm_up or else one run.  suffix: what the kinds of
    all gateways end with.  With gate and o, rounds are added while the control
    is too noisy and the run has time to spare."""
    of = args if callable(args) else lambda name: args
    targets = {name: rig.direct() if name == 'direct'
               else rig.instance(INSTANCE.get(name, name) + suffix)
               for name in names}

    for name in names:
        rig.load(targets[name], warm_up or of(name))

    # CPU time is the gateway's core's, a latency that of all
    cores = [rig.gateway_core] if gate == 'cpu_us' else rig.cores

    def take(name):
        if name in HITS:
            return hit(rig, targets[name], of(name), per)
        return sample(rig, targets[name], of(name), per, events)

    def one(name):
        return rig.calm.sample(cores, lambda: take(name))

    done = []
    more = max(3, rounds // 5)
    while len(done) < rounds:
        start = time.monotonic()
        if life and done and len(done) % life == 0:
            for name in rnd.sample(names, len(names)):
                if name != 'direct':
                    targets[name] = rig.renew(name + suffix)
                    rig.load(targets[name], warm_up or of(name))
        order = list(names)
        rnd.shuffle(order)
        done.append({name: one(name) for name in order})
        took = (time.monotonic() - start) * more
        say(len(done), rounds)

        if gate and len(done) == rounds and rounds >= 3 \
                and o.spare >= took and len(done) < o.rounds * 2 \
                and not steady(done, gate):
            rounds += more
            o.spare -= took
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
            row[m] = {'median': stats.median(values),
                      'range': stats.interval(values)}
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


# CPU time repeats better than what a client sees
WIDEST = {'rps': 0.08, 'p50': 0.08, 'ttft': 0.08}


def steady(rounds, gate):
    """Whether the control is good enough to stop."""
    ratios = stats.ratios(rounds, 'twin', 'plain', gate)
    return abs(stats.median(ratios) - 1) <= goals.CONTROL and stats.verdict(
        stats.interval(ratios), WIDEST.get(gate, stats.WIDEST)) == 'valid'


def result(title, rounds, names, metrics, gate, unit, bases=None):
    table = summary(rounds, names, metrics, bases or {})
    aa = table['twin'].get(gate, {}).get('interval')
    notes = []

    # the capacity is then 1 / CPU per request, not the rps seen
    bound = []
    for name in names:
        if name.endswith('-rate') or name == 'direct' or 'rps' not in metrics:
            continue
        util = stats.median([r[name]['util'] for r in rounds
                             if 'util' in r[name]])
        busy = stats.median([r[name]['rig_util'] for r in rounds
                             if 'rig_util' in r[name]])
        if util < 0.95 or busy > 0.95:
            table[name]['rps']['bound'] = True
            bound.append((util, busy))
    if bound:
        notes.append("rig-bound: the gateway's core was busy to %.2f or "
                     'less, or mock and load to %.2f of theirs; 1 ÷ CPU '
                     'time is then the capacity'
                     % (max(u for u, _ in bound), max(b for _, b in bound)))

    steal = sum(r[name].get('steal', 0) for r in rounds for name in names)
    if steal > 0.5:
        notes.append('%.1f s stolen by the hypervisor' % steal)

    busy = [r[name]['calm'] for r in rounds for name in names
            if 'calm' in r[name]].count(False)
    if busy:
        notes.append('%d of %d samples while a processor was slower than it '
                     'can be' % (busy, len(rounds) * len(names)))

    lag = [r[name]['lag'] for r in rounds for name in names
           if 'lag' in r[name]]
    if lag and stats.median(lag) > 50:
        notes.append('the load itself was late by %d µs (median)'
                     % stats.median(lag))

    return {'title': title, 'unit': unit, 'gate': gate,
            'verdict': stats.verdict(aa, WIDEST.get(gate, stats.WIDEST)),
            'summary': table, 'notes': notes, 'rounds': rounds}


def calls(rig, rnd, say, o, size, names, title, more='', form=GOOD):
    """JSON in a closed loop of 32 requests at once."""
    args = ['-c', 32, '-d', o.seconds, '--size', size] + form
    if more == HTTP2:
        args = ['-c', 4, '-m', 8, '-D', '%dms' % (o.seconds * 1000),
                '--size', size]
    rounds = paired(rig, rnd, say, names, o.rounds, args, suffix=more,
                    life=LIFE, gate='cpu_us', o=o)
    return result(title, rounds, names,
                  ['cpu_us', 'capacity', 'rps', 'p50'], 'cpu_us',
                  'µs of CPU per request')


THREE = ['plain', 'twin', 'limits']


def json_calls(rig, rnd, say, o):
    return calls(rig, rnd, say, o, 2048,
                 ['plain', 'twin', 'ours', 'limits', 'shipped'],
                 'JSON: 2 KB body, closed loop, 32 connections')


def json20(rig, rnd, say, o):
    return calls(rig, rnd, say, o, 20480, THREE, 'JSON: 20 KB body')


def json200(rig, rnd, say, o):
    return calls(rig, rnd, say, o, 204800, THREE, 'JSON: 200 KB body')


def tls(rig, rnd, say, o):
    return calls(rig, rnd, say, o, 2048, THREE,
                 'TLS to the provider: 2 KB body, kept connections', TLS)


def http2(rig, rnd, say, o):
    return calls(rig, rnd, say, o, 2048, THREE,
                 'HTTP/2 to the client: 2 KB body, 4 connections of 8 '
                 'requests', HTTP2)


def limits(rig, rnd, say, o):
    names = ['plain', 'twin', 'limits', 'exact', 'leased']
    args = ['-c', 32, '-d', o.seconds, '--size', 2048] + GOOD
    rounds = paired(rig, rnd, say, names, o.rounds, args, life=LIFE,
                    gate='cpu_us', o=o)
    return result('Every limit of key and team: in memory, by Redis exactly, '
                  'by Redis in chunks', rounds, names,
                  ['cpu_us', 'rps', 'p50', 'commands'], 'cpu_us', 'µs of CPU per request')


# An event of one of many streams finds little of what it needs in the caches,
# and it tells most of all where a process has its memory: so one round each.
EVENT = ['-H', 'x-mock-chunks: 1'] + CHUNK


def paced(rig, rnd, say, o):
    args = ['--stream', '-c', 100, '-n', 100, '--size', 2048,
            '-H', 'x-mock-chunks: 50', '-H', 'x-mock-pace-ms: 20',
            '-H', 'x-mock-stamp: 1'] + CHUNK
    rounds = paired(rig, rnd, say, THREE, o.rounds, args, 'events',
                    warm_up=args[:7] + EVENT, life=1, events=50 + AROUND,
                    gate='cpu_us', o=o)
    return result('SSE paced: 100 streams, an event each 20 ms', rounds,
                  THREE, ['cpu_us', 'transit'], 'cpu_us',
                  'µs of CPU per event')


def paced_http2(rig, rnd, say, o):
    args = ['--stream', '-c', 4, '-m', 25, '-n', 100, '--size', 2048,
            '-H', 'x-mock-chunks: 50', '-H', 'x-mock-pace-ms: 20'] + CHUNK
    rounds = paired(rig, rnd, say, THREE, o.rounds, args, 'events',
                    warm_up=args[:9] + EVENT, life=1, suffix=HTTP2,
                    events=50 + AROUND, gate='cpu_us', o=o)
    return result('SSE paced over HTTP/2: 4 connections of 25 streams, an '
                  'event each 20 ms', rounds, THREE, ['cpu_us'], 'cpu_us',
                  'µs of CPU per event')


def flood(rig, rnd, say, o):
    args = ['--stream', '-c', 16, '-d', o.seconds, '--size', 2048,
            '-H', 'x-mock-chunks: 64'] + CHUNK
    rounds = paired(rig, rnd, say, THREE, o.rounds, args, 'events',
                    life=LIFE, events=64 + AROUND, gate='cpu_us', o=o)
    return result('SSE flood: 16 connections, 64 events at once', rounds,
                  THREE, ['cpu_us'], 'cpu_us', 'µs of CPU per event')


def first_events(rig, rnd, say, o, title, names, args):
    """Time to first token: the difference to plain is that of the p50 within
    a round."""
    args = ['--stream', '--size', 2048, '--over', SLOW_US] + args + CHUNK
    rounds = paired(rig, rnd, say, names, o.rounds, args, life=LIFE,
                    gate='ttft', o=o)
    got = result(title, rounds, names, ['ttft'], 'ttft', 'µs, p50')

    got['slow'] = {}
    for name in names:
        some = [r[name] for r in rounds]
        got['slow'][name] = sum(r['ttft_slow'] for r in some) \
            / sum(r['ttft_count'] for r in some)
    got['notes'].append('later than %d ms, as after a delayed '
                        'acknowledgement: %s (the goal: below 0.5 %%)' % (
                            SLOW_US / 1000, ', '.join(
                                '%s %.2f %%' % (name, share * 100)
                                for name, share in got['slow'].items())))
    return got


ONE = ['-c', 1, '-H', 'x-mock-chunks: 1']


def ttft(rig, rnd, say, o):
    return first_events(rig, rnd, say, o,
                        'Time to first token: one stream after the other',
                        ['direct', 'plain', 'twin', 'limits'],
                        ['-d', o.seconds] + ONE)


def ttft_awake(rig, rnd, say, o):
    with awake():
        return first_events(rig, rnd, say, o,
                            'Time to first token: the same on processors '
                            'that do not sleep',
                            ['direct', 'plain', 'twin', 'limits'],
                            ['-d', o.seconds] + ONE)


def ttft100(rig, rnd, say, o):
    # 11 pauses of 20 ms and 455 new ones a second: 100 are open
    return first_events(rig, rnd, say, o,
                        'Time to first token: 100 streams open, 455 new ones '
                        'a second', THREE,
                        ['-r', 455, '--warmup', 0.25, '-d', o.seconds * 2,
                         '-H', 'x-mock-chunks: 10',
                         '-H', 'x-mock-pace-ms: 20'])


def at_rate(rig, rnd, say, o, names, rate):
    args = ['-r', rate, '-d', o.seconds, '--size', 2048] + GOOD
    rounds = paired(rig, rnd, say, names, o.rounds, args, life=LIFE,
                    gate='p50', o=o)
    return result('Latency: 2 KB body, %s requests a second at a constant '
                  'rate' % format(rate, ','), rounds, names,
                  ['p50', 'cpu_us'], 'p50', 'µs, p50')


def latency(rig, rnd, say, o):
    return at_rate(rig, rnd, say, o, ['direct'] + THREE, 1000)


def latency_busy(rig, rnd, say, o):
    return at_rate(rig, rnd, say, o, THREE, 10000)


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
        return base + ['-d', o.seconds]

    for name in ('cache', 'redis'):
        gateway = rig.instance(name)
        for _ in range(2):
            headers = rig.ask(gateway)[1]
            time.sleep(0.1)
        if 'hit' not in headers.get('Cache-Status', ''):
            raise Failure('%s: a repeated request is no cache hit: %s'
                          % (name, headers))

    # on a busy machine not all of them are stored at once
    for _ in range(5):
        before = rig.mock_requests()
        rig.load(rig.instance('redis'), args('kept'))
        if rig.mock_requests() == before:
            break

    rounds = paired(rig, rnd, say, names, o.rounds, args, gate='cpu_us', o=o)
    got = result('Cache: hits in memory and in Redis, misses that are stored',
                 rounds, names, ['cpu_us', 'rps', 'p50'], 'cpu_us',
                 'µs of CPU per request',
                 {'hit': 'return', 'hit-rate': 'return-rate',
                  'return-rate': 'return-rate'})
    got['notes'].append('at the rate: %s requests a second, which the two '
                        'are to be compared at' % format(RATE, ','))
    return got
