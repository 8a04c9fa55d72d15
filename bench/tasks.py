"""Tasks: what it costs to submit, run and fetch them; and people's requests
while a batch runs beside them."""

import http.client
import json
import os
import re
import signal
import socket
import time

import stats
from rig import Failure, SECRET, cpu_ns, steal_ticks
from timed import result, sample

TASKS = 10000       # of a round, in calls of CALL
AGAIN = 7           # samples of single requests in a round
CALL = 1000
PROMPT = 500        # bytes

BATCH = 5000        # beside people's requests
DELAY = 30          # ms, of the provider
PEOPLE = 200        # requests a second

AIMS = {'submit': 5000, 'run': 2000}
COMMANDS = 8
MOST = 1.2

STAT = '{llm}:t:stat'


class Redis:
    """Enough of a client to look at the queue; it counts its commands."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile('rb')
        self.asked = 0

    def close(self):
        self.file.close()
        self.socket.close()

    def ask(self, *words):
        words = [w.encode() for w in words]
        self.socket.sendall(b'*%d\r\n' % len(words) + b''.join(
            b'$%d\r\n%s\r\n' % (len(w), w) for w in words))
        self.asked += 1
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b'*':
            return [self.reply() for _ in range(int(rest))]
        if kind == b'$' and int(rest) >= 0:
            return self.file.read(int(rest) + 2)[:-2].decode()
        if kind in (b'-', b''):
            raise Failure('Redis: %s' % rest.decode())
        return None if kind == b'$' else rest.decode()

    def commands(self):
        """Those of others so far; what scripts call counts, too."""
        asked = self.asked
        said = self.ask('INFO', 'commandstats')
        return sum(int(n) for n in re.findall(r'calls=(\d+)', said)) - asked

    def live(self):
        got = self.ask('HMGET', STAT, 'queued', 'processing')
        return sum(int(n or 0) for n in got)

    def drained(self, seconds):
        end = time.monotonic() + seconds
        while self.live():
            if time.monotonic() > end:
                raise Failure('%d tasks are left after %d s'
                              % (self.live(), seconds))
            time.sleep(0.01)


class Client:
    """One connection to a gateway."""

    def __init__(self, gateway):
        self.name = gateway.name
        self.connection = http.client.HTTPConnection(
            '127.0.0.1', gateway.port, timeout=60)

    def close(self):
        self.connection.close()

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body, {
            'Authorization': 'Bearer ' + SECRET,
            'Content-Type': 'application/json'})
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 202):
            raise Failure('%s: %s: %d %s' % (self.name, method,
                                             answer.status, said[:300]))
        return said

    def ready(self, seconds):
        """Has the gateway found its Redis?"""
        end = time.monotonic() + seconds
        while True:
            try:
                return self.ask('GET', '/api/tasks?task_ids=none')
            except Failure:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def submit(self, calls):
        return [self.ask('POST', '/api/tasks', body) for body in calls]

    def fetch(self, ids):
        return [self.ask('GET', '/api/tasks?task_ids=' + ','.join(some))
                for some in ids]


def bodies(count, mark):
    """Calls of so many tasks, no two of them alike."""
    calls = []
    for first in range(0, count, CALL):
        calls.append(json.dumps({'model': 'gpt-4o', 'prompts': [
            ('%s %d: ' % (mark, first + n)).ljust(PROMPT, 'x')
            for n in range(min(CALL, count - first))]}).encode())
    return calls


def ids_of(answers):
    return [json.loads(said)['task_ids'] for said in answers]


def check(answers, count):
    """Failing fast is not speed."""
    good = sum(task['status'] == 'completed' and task['result'] is not None
               for said in answers for task in json.loads(said).values())
    if good != count:
        raise Failure('%d of %d tasks completed' % (good, count))


def all_of(rig, gateway, queue, count):
    """So many tasks, from their submission to their results."""
    client, redis = Client(gateway), Redis(rig.start_queue(queue)[1])
    try:
        client.ready(60)
        ids = ids_of(client.submit(bodies(count, 'task')))
        redis.drained(120)
        check(client.fetch(ids), count)
    finally:
        client.close()
        redis.close()


class Meter:
    """What gateway, Redis and the rig spend on so many tasks."""

    def __init__(self, rig, gateway, redis):
        self.rig = rig
        self.pid = gateway.worker
        self.queue = rig.start_queue('tasks')[0].pid
        self.redis = redis
        self.commands = redis.commands()
        self.start = self.now()

    def now(self):
        return [time.monotonic(), cpu_ns(self.pid), cpu_ns(self.queue),
                cpu_ns(self.rig.mock.pid), time.process_time(),
                steal_ticks()]

    def told(self, count):
        took, cpu, redis, mock, own, steal = [
            after - before for before, after in zip(self.start, self.now())]
        return {'rps': count / took, 'cpu_us': cpu / 1e3 / count,
                'redis_us': redis / 1e3 / count,
                'commands': (self.redis.commands() - self.commands) / count,
                'util': cpu / 1e9 / took,
                'rig_util': (redis + mock) / 1e9 / took + own / took,
                'steal': steal / os.sysconf('SC_CLK_TCK'),
                'load': os.getloadavg()[0]}


def run_all(rig, submit, run, redis, calls):
    """The three parts one after the other, each with the core to itself."""
    count = sum(len(json.loads(body)['prompts']) for body in calls)
    got = {}
    client = Client(submit)

    try:
        # else it would begin with what it should find
        os.kill(run.worker, signal.SIGSTOP)
        try:
            meter = Meter(rig, submit, redis)
            ids = ids_of(client.submit(calls))
            got['submit'] = meter.told(count)
            meter = Meter(rig, run, redis)
        finally:
            os.kill(run.worker, signal.SIGCONT)

        redis.drained(60)
        got['run'] = meter.told(count)

        meter = Meter(rig, submit, redis)
        said = client.fetch(ids)
        got['fetch'] = meter.told(count)
    finally:
        client.close()

    check(said, count)
    return got


def tasks(rig, rnd, say, o):
    redis = Redis(rig.start_queue('tasks')[1])
    targets = {name: rig.instance(name)
               for name in ('plain', 'twin', 'ours', 'submit', 'run')}
    parts = ['submit', 'run', 'fetch']
    asked = ['plain', 'twin', 'ours']
    args = ['-c', 32, '-d', min(o.seconds, 1), '--size', PROMPT + 100]

    for name in asked:
        rig.load(targets[name], args)
    run_all(rig, targets['submit'], targets['run'], redis,
            bodies(TASKS // 5, 'warm-up'))

    rounds, count = [], o.rounds
    for n in range(count):
        order = asked * AGAIN + ['tasks']
        rnd.shuffle(order)
        got, some = {}, {name: [] for name in asked}
        for name in order:
            if name == 'tasks':
                redis.ask('FLUSHDB')
                got.update(run_all(rig, targets['submit'], targets['run'],
                                   redis, bodies(TASKS, 'round %d' % n)))
            else:
                some[name].append(rig.calm.sample(
                    [rig.gateway_core],
                    lambda: sample(rig, targets[name], args, 'requests')))
        got.update({name: stats.middle(some[name]) for name in asked})
        rounds.append(got)
        say(n + 1, count)
    redis.close()

    names = asked + parts
    out = result('Tasks: %d at a time, in calls of %d, beside single '
                 'requests of that size' % (TASKS, CALL), rounds, names,
                 ['cpu_us', 'rps', 'redis_us', 'commands'], 'cpu_us',
                 'µs of CPU per task or request',
                 {name: 'ours' for name in parts})

    table = out['summary']
    for name, least in AIMS.items():
        if table[name]['rps']['median'] < least:
            out['notes'].append('%s: the goal is at least %d a second'
                                % (name, least))
    both = sum(table[name]['commands']['median']
               for name in ('submit', 'run'))
    out['notes'].append('Redis commands of a task that is submitted and run: '
                        '%.2f%s' % (both, '' if both <= COMMANDS else
                                    ', the goal is at most %d' % COMMANDS))
    return out


def beside_once(rig, gateway, redis, client, batch, seconds):
    """People's requests, alone or while a batch runs all the time."""
    args = ['-c', 64, '-r', PEOPLE, '-d', seconds, '--size', 1024,
            '-H', 'x-mock-delay-ms: %d' % DELAY]
    if batch:
        client.submit(batch)
        while redis.live() > BATCH - 100:
            time.sleep(0.01)

    cpu = sum(cpu_ns(pid) for pid in gateway.workers)
    before, start, steal = redis.live(), time.monotonic(), steal_ticks()
    seen = rig.load(gateway, args)
    took, left = time.monotonic() - start, redis.live()

    if batch:
        if left < 50:
            raise Failure('the batch was over too early')
        redis.drained(60)

    spent = sum(cpu_ns(pid) for pid in gateway.workers) - cpu
    got = {'steal': (steal_ticks() - steal) / os.sysconf('SC_CLK_TCK'),
           'util': spent / 1e9 / took, 'rig_util': 0, 'load':
           os.getloadavg()[0], 'tasks': (before - left) / took}
    got.update({p: seen['latency'][p] for p in ('p50', 'p90', 'p99')})
    return got


def beside(rig, rnd, say, o):
    gateway = rig.instance('beside')
    redis = Redis(rig.start_queue('beside')[1])
    client = Client(gateway)
    names = ['without', 'twin', 'with']
    seconds = max(1, min(o.seconds * 8, 3))
    rounds, count = [], o.rounds

    # what the mock is told by header for people, it is told for tasks by rule
    rig.script_mock({'rules': [{'delay_ms': DELAY}]})
    try:
        beside_once(rig, gateway, redis, client,
                    bodies(BATCH, 'warm-up'), 1)
        for n in range(count):
            order = list(names)
            rnd.shuffle(order)
            redis.ask('FLUSHDB')
            rounds.append({name: beside_once(
                rig, gateway, redis, client,
                bodies(BATCH, 'round %d' % n) if name == 'with' else None,
                seconds) for name in order})
            say(n + 1, count)
    finally:
        rig.script_mock({})
        client.close()
        redis.close()

    out = result("People's requests beside a batch: %d a second to a "
                 'provider that takes %d ms, two workers' % (PEOPLE, DELAY),
                 rounds, names, ['p50', 'p90', 'p99', 'tasks'], 'p50', 'µs',
                 {name: 'without' for name in names})
    out['what'] = {'without': 'no batch', 'twin': 'no batch, again (A/A)',
                   'with': 'a batch of %d tasks' % BATCH}
    out['as_ratio'] = True

    for p in ('p50', 'p90', 'p99'):
        row = {name: out['summary'][name][p] for name in ('twin', 'with')}
        out['notes'].append(
            '%s: with ÷ without %.3f [%.3f, %.3f], A/A %.3f [%.3f, %.3f]%s'
            % ((p,) + tuple(x for name in ('with', 'twin')
                            for x in [row[name]['ratio']]
                            + (row[name]['interval'] or [0, 0]))
               + ('' if p == 'p99' or row['with']['ratio'] <= MOST
                  else ', the goal is at most %.1f' % MOST,)))
    return out
