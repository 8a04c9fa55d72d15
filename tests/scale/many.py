"""Curves of one gateway: keys, waiting requests, open streams, events."""

import os
import random
import statistics
import time

from bed import anon, digest, until
from client import Asker, Crowd, PER_LINK

EACH = 200               # requests that are counted
TIMED = 1500             # requests that are timed, per round
SEED = 1


def say(text):
    print('# ' + text, flush=True)


def points(o, *all_of_them):
    return [n for n in all_of_them if n <= o['most']]


def rows_of(names, ns, table):
    """Of table[name][n] a row per n."""
    return [dict({'n': n}, **{name: table[name].get(n) for name in names})
            for n in ns]


def alternating(runs, rounds):
    """runs: n -> something that gives ns per request.  Medians of rounds in
    which each has its turn, in an order that is turned round."""
    spent = {n: [] for n in runs}
    order = list(runs)
    for i in range(rounds):
        for n in order if i % 2 == 0 else reversed(order):
            spent[n].append(runs[n]())
    return {n: statistics.median(v) for n, v in spent.items()}


# keys

AGAIN = 50               # of them are asked, twice

def tenants_file(bed, n):
    """As keys.pl has them: in 1000 teams."""
    path = os.path.join(bed.dir, 'tenants-%d.json' % n)
    if not os.path.exists(path):
        with open(path, 'w') as f:
            f.write('{"teams": {' + ', '.join(
                '"team%d": {"concurrency": 1000}' % i
                for i in range(1000)) + '},\n"keys": {')
            for i in range(n):
                f.write('%s"key%d": {"team": "team%d", "concurrency": 100,'
                        ' "requests_per_minute": 60000, "sha256": "%s"}'
                        % (',\n' if i else '\n', i, i % 1000,
                           digest('key%d' % i)))
            f.write('}}\n')
    return path


def keys(bed, o):
    ns = points(o, 100, 1000, 10000, 100000, 1000000)
    upstream = bed.mock()
    counted, alive = {'first': {}, 'again': {}}, {}
    rnd = random.Random(SEED)

    def gateway(n, callgrind):
        return bed.gateway('keys%d' % n, tenants_file(bed, n), callgrind,
                           300, mock=upstream, zone='128m keys=%dm'
                           % (32 + n // 2000))

    def some(n, count):
        return ['key%d' % rnd.randrange(n) for _ in range(count)]

    for n in ns:
        g = gateway(n, True)
        a = Asker(g.port)
        asked = ['key%d' % i for i in rnd.sample(range(n), AGAIN + 1)]
        a.ask(asked[-1:] * 100)
        for name in ('first', 'again'):
            counted[name][n] = g.instructions(
                lambda: a.ask(asked[:-1])) / AGAIN
        a.close()
        g.stop()
        say('%d keys: %d instructions, again %d'
            % (n, counted['first'][n], counted['again'][n]))

    for n in ns:
        g = gateway(n, False)
        alive[n] = (g, Asker(g.port, 8))
        alive[n][1].ask(some(n, 200))

    def timed(n):
        g, a = alive[n]
        asked = some(n, TIMED)
        return g.cpu(lambda: a.ask(asked)) / TIMED

    spent = alternating({n: (lambda n=n: timed(n)) for n in ns},
                        o['rounds'])
    return {
        'title': 'Keys: a request of any of them',
        'of': 'keys', 'unit': 'user instructions per request',
        'lines': {'first': 'the first of a key', 'again': 'a further one'},
        'columns': {'first': 'the first of a key', 'again': 'a further one',
                    'cpu': 'CPU, of any key, to that of the first point'},
        'rows': rows_of(['first', 'again', 'cpu'], ns, dict(
            counted, cpu={n: spent[n] / spent[ns[0]] for n in ns})),
        'ns': {str(n): spent[n] for n in ns},
        'flat': {'first': 1.05, 'again': 1.05},
    }


# waiting requests

QUEUE = {'size': 65536, 'timeout_ms': 3600000}
LINE = {'concurrency': 1, 'queue': QUEUE}

# one of so many in a line is answered only when it is cancelled
HOLDS = 10
TEAMS = 64

# a line in front of that many keys
OLDER = 300
KEYS = 10000


def crowd_tenants():
    keys = {}

    def key(name, team, **limits):
        keys[name] = dict(limits, team=team, sha256=digest(name))

    key('other', 'else', concurrency=1000, requests_per_minute=100000000)
    key('mate', 'crowd', concurrency=1000, requests_per_minute=100000000)
    for i in range(4):
        key('crowd%d' % i, 'crowd', **LINE)
    key('line', 'line', **LINE)
    for i in range(TEAMS):
        key('gate%d' % i, 'gate%d' % i, queue=QUEUE)
    return {'teams': {key['team']: {'concurrency': 1000}
                      for key in keys.values()}, 'keys': keys}


def older_tenants(n):
    keys = {name: {'team': 't', 'sha256': digest(name), 'queue': QUEUE}
            for name in ['old'] + ['new%d' % i for i in range(n)]}
    return {'teams': {'t': {'concurrency': 1}}, 'keys': keys}


def waits(g, crowd, n, seconds=120):
    def there():
        crowd.pump(0)
        return g.metric('llm_slots_waiting') == n
    until(there, seconds, '%d waiting' % n)


class Line:
    """A line of n of which ten at a time are let through and ten come."""

    def __init__(self, g, crowd, n, key):
        self.crowd, self.key = crowd, key
        self.came, self.holders = 0, []
        # the first one runs
        self.come(1)
        for i in range(0, n, PER_LINK):
            self.come(min(PER_LINK, n - i))
            waits(g, crowd, min(i + PER_LINK, n))

    def come(self, n):
        first = self.came
        some = self.crowd.start(
            n, lambda i: self.key(first + i),
            each=lambda i: [] if (first + i) % HOLDS
            else [('x-mock-hang', '1')])
        self.holders += [one for i, one in enumerate(some)
                         if (first + i) % HOLDS == 0]
        self.came += n

    def turns(self, times):
        crowd = self.crowd
        for _ in range(times):
            done = crowd.done + HOLDS - 1
            crowd.cancel(self.holders.pop(0))
            crowd.until(lambda: crowd.done >= done, 60, 'the line moves')
            self.come(HOLDS)


def beside(g, n, key, crowd):
    a = Asker(g.port)
    a.ask([key] * 50)
    crowd.pump(0)
    spent = g.instructions(lambda: a.ask([key] * EACH)) / EACH
    a.close()
    return spent


def waiting(bed, o):
    ns = points(o, 10, 100, 1000, 10000, 100000)
    names = ['other', 'mate', 'line', 'gate', 'older']
    table = {name: {} for name in names + ['kib']}
    upstream = bed.mock()
    zone = '512m'

    def gateway(name, callgrind, **more):
        return bed.gateway(name, crowd_tenants(), callgrind, mock=upstream,
                           zone=zone, **more)

    def fill(g, n):
        """n wait for the slots of four keys of a team."""
        crowd = Crowd(g.port2)
        for i in range(4):
            crowd.start(1, 'crowd%d' % i, headers=[('x-mock-hang', '1')])
        for i in range(4):
            crowd.start(n // 4 + (i < n % 4), 'crowd%d' % i)
        waits(g, crowd, n)
        return crowd

    for n in ns:
        g = gateway('crowd', True)
        crowd = fill(g, n)
        for name in ('other', 'mate'):
            table[name][n] = beside(g, n, name, crowd)
        crowd.close()
        g.stop()

        # through the line of one key, and of the provider for which the
        # keys of 64 teams wait; a line has room for 65,536
        for name, key, more in (
                ('line', lambda i: 'line', {}),
                ('gate', lambda i: 'gate%d' % (i % TEAMS),
                 {'provider': 'concurrency=1'})):
            g = gateway(name, True, **more)
            crowd = Crowd(g.port2)
            line = Line(g, crowd, min(n, 65000), key)
            line.turns(2)
            table[name][n] = g.instructions(
                lambda: line.turns(EACH // HOLDS)) / EACH
            crowd.close()
            g.stop()

        # the line of a key that waits for its team's one slot, before as
        # many other keys that came later
        if n <= KEYS:
            g = bed.gateway('older', older_tenants(n), True, mock=upstream,
                            zone=zone)
            crowd = Crowd(g.port2)
            line = Line(g, crowd, OLDER, lambda i: 'old')
            for i in range(0, n, PER_LINK):
                some = min(PER_LINK, n - i)
                crowd.start(some, lambda k, i=i: 'new%d' % (i + k))
                waits(g, crowd, OLDER + i + some)
            line.turns(2)
            table['older'][n] = g.instructions(
                lambda: line.turns(EACH // HOLDS)) / EACH
            crowd.close()
            g.stop()

        # what each takes; of a few it is hardly to be seen
        if n >= 100:
            g = gateway('bytes', False)
            crowd = fill(g, 10)
            before = anon(g.pid)
            crowd.close()
            crowd = fill(g, n)
            table['kib'][n] = (anon(g.pid) - before) / n / 1024
            crowd.close()
            g.stop()
        say('%d wait: ' % n + ', '.join('%s %d' % (k, v.get(n, 0))
                                        for k, v in table.items()))
    return {
        'title': 'Waiting requests: what a request costs beside them',
        'of': 'waiting', 'unit': 'user instructions per request',
        'lines': {'other': 'of another team', 'mate': 'of the same team',
                  'line': 'through the line of a key',
                  'gate': 'through the line of a provider',
                  'older': 'before other keys of the team'},
        'columns': {'other': 'another team', 'mate': 'same team',
                    'line': "a key's line", 'gate': "a provider's line",
                    'older': "a key's line, before so many other keys",
                    'kib': 'KiB each'},
        'rows': rows_of(names + ['kib'], ns, table),
        'flat': {'other': 1.05, 'mate': 1.05, 'line': 1.25, 'gate': 1.25,
                 'older': 1.05},
    }


# open streams

PACED = 1000             # events a second, of all streams together
CONTENT = [('x-mock-chunk-bytes', '60')]


def stream_tenants():
    return {'teams': {'t': {}}, 'keys': {
        name: {'team': 't', 'sha256': digest(name),
               'requests_per_minute': 100000000}
        for name in ('user', 'other')}}


def opened(g, n, headers):
    """n streams whose first event has come."""
    crowd = Crowd(g.port2)
    before = crowd.events
    crowd.start(n, 'user', stream=True, headers=headers)
    crowd.until(lambda: crowd.events - before >= n, 120, 'streams begin')
    return crowd


def watched(crowd, events):
    """Until so many more have come."""
    most = crowd.events + events
    crowd.until(lambda: crowd.events >= most, 120, 'events come')


def streams(bed, o):
    ns = points(o, 100, 1000, 10000)
    table = {name: {} for name in ('other', 'event', 'kib')}
    upstream = bed.mock()

    def gateway(callgrind):
        return bed.gateway('streams', stream_tenants(), callgrind,
                           mock=upstream)

    silent = [('x-mock-chunks', '3'), ('x-mock-pace-ms', '3600000')]

    for n in ns:
        g = gateway(True)
        crowd = opened(g, n, silent)
        table['other'][n] = beside(g, n, 'other', crowd)
        crowd.close()
        g.stop()

        # the same number of events a second, of more and more streams
        g = gateway(True)
        pace = n * 1000 // PACED
        crowd = opened(g, n, CONTENT + [
            ('x-mock-chunks', '1000'), ('x-mock-pace-ms', str(pace))])
        watched(crowd, n)
        table['event'][n] = events(g, crowd, 4 * PACED)
        crowd.close()
        g.stop()

        g = gateway(False)
        crowd = opened(g, 20, silent)
        before = anon(g.pid)
        more = opened(g, n, silent)
        time.sleep(0.3)
        table['kib'][n] = (anon(g.pid) - before) / n / 1024
        crowd.close()
        more.close()
        g.stop()
        say('%d streams: ' % n + ', '.join('%s %d' % (k, v[n])
                                           for k, v in table.items()))
    return {
        'title': 'Open streams', 'of': 'streams',
        'unit': 'user instructions',
        'lines': {'other': 'a request beside them',
                  'event': 'an event of one of them'},
        'columns': {'other': 'a request beside them', 'event': 'an event',
                    'kib': 'KiB each'},
        'rows': rows_of(list(table), ns, table),
        'flat': {'other': 1.05, 'event': 1.25},
    }


def events(g, crowd, n):
    """Instructions per event; how many come until it is told to stop
    counting is known by what came."""
    before = [0]

    def run():
        before[0] = crowd.events
        watched(crowd, n)

    spent = g.instructions(run)
    return spent / (crowd.events - before[0])


# the length of a stream

FEW = 5                  # streams, with an event each 5 ms


def length(bed, o):
    ns = points(o, 10, 100, 1000, 10000)
    table = {name: {} for name in ('event', 'further', 'flood', 'kib')}
    upstream = bed.mock()

    def whole(g, n, pace):
        """Streams of n events."""
        crowd = Crowd(g.port2)
        crowd.start(FEW, 'user', stream=True, headers=CONTENT + [
            ('x-mock-chunks', str(n)), ('x-mock-pace-ms', str(pace))])
        crowd.until(lambda: crowd.done == crowd.asked, 300, 'streams end')
        crowd.close()

    g = bed.gateway('length', stream_tenants(), True, mock=upstream)
    whole(g, 10, 0)
    before = (0, 0)
    for n in ns:
        spent = g.instructions(lambda: whole(g, n, FEW)) / FEW
        table['event'][n] = spent / n
        table['further'][n] = (spent - before[1]) / (n - before[0]) \
            if before[0] else None
        before = (n, spent)
        table['flood'][n] = g.instructions(
            lambda: whole(g, n, 0)) / FEW / n
    g.stop()

    # what a stream has that has come so far and goes on
    for n in ns:
        g = bed.gateway('length', stream_tenants(), False, mock=upstream)
        whole(g, 100, 0)
        before = anon(g.pid)
        crowd = Crowd(g.port2)
        crowd.start(200, 'user', stream=True, headers=CONTENT + [
            ('x-mock-chunks', str(n + 2)), ('x-mock-idle-at', str(n)),
            ('x-mock-idle-ms', '3600000')])
        crowd.until(lambda: crowd.events >= 200 * n, 120, 'events come')
        table['kib'][n] = (anon(g.pid) - before) / 200 / 1024
        crowd.close()
        g.stop()
        say('%d events: ' % n + ', '.join(
            '%s %s' % (k, v[n] and round(v[n])) for k, v in table.items()))
    return {
        'title': 'Length of a stream', 'of': 'events',
        'unit': 'user instructions per event',
        'lines': {'event': 'paced, with the request itself',
                  'further': 'paced, each further event',
                  'flood': 'as fast as they come'},
        'columns': {'event': 'paced, with the request itself',
                    'further': 'each further event',
                    'flood': 'as fast as they come, with the request',
                    'kib': 'KiB per stream'},
        'rows': rows_of(list(table), ns, table),
        'flat': {'further': 1.1},
    }
