"""Other gateways beside plain nginx and ngx-llm: the same core, mock, requests
and checks of the answers.  What is installed is measured (make bench-peers),
what is not is a row that tells why."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import rig as rig_module
import timed
from rig import (Failure, Gateway, PATH, SECRET, TOP, cpu_ns, first_event,
                 steal_ticks)

HERE = os.path.join(TOP, 'bench', 'peers')
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
VIRTUAL_KEY = 'sk-bf-' + 'bench' * 6

# what a peer without a processor to spare bears, too
RATE = 25           # requests a second
STREAMS = 12        # streams a second
EVENTS = 25         # of a stream, with PACE between them
PACE = 20           # ms
IDLE = 100          # streams that are open and silent
SIZE = 2048         # of a request

SAYS = 'Hello from the mock provider, which always says the same.'
ENDS = '"finish_reason":"stop"'

START = 120         # s
LOOP = 0.7          # s of closed loop in a whole round
PARTS = 5           # rounds of a part of it, the first of which is whole


class Missing(Exception):
    """Why a peer is not measured."""


class Peer(Gateway):
    """A process with whatever it starts."""

    def __init__(self, name, port, process, how):
        super().__init__(name, port, process)
        self.headers = how.get('headers', {})
        self.model = how.get('model', 'gpt-4o')
        self.told = None


def members(gateway):
    """Its processes: rig.spawn() began a session with the first of them."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            with open('/proc/%s/stat' % pid) as f:
                fields = f.read().rsplit(')', 1)[1].split()
            if int(fields[3]) == gateway.process.pid:
                found.append(int(pid))
    return found


def spent(gateway):
    total = 0
    for pid in members(gateway):
        with contextlib.suppress(OSError):
            total += cpu_ns(pid)
    return total


def resident(gateway):
    """Bytes; what several of its processes share counts once."""
    total = 0
    for pid in members(gateway):
        with contextlib.suppress(OSError):
            with open('/proc/%d/smaps_rollup' % pid) as f:
                found = re.search(r'^Pss:\s+(\d+) kB', f.read(), re.M)
            total += int(found.group(1)) * 1024 if found else 0
    return total


def said_by(*command):
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=60)
    return (done.stdout + done.stderr).strip()


def version(pattern, *command):
    found = re.search(pattern, said_by(*command))
    return found.group(1) if found else 'unknown'


def headers_of(gateway):
    return dict({'Authorization': 'Bearer ' + SECRET,
                 'Content-Type': 'application/json'},
                **getattr(gateway, 'headers', {}))


def ask(gateway, path=PATH, key=SECRET):
    """One request: status, headers, body."""
    c = http.client.HTTPConnection('127.0.0.1', gateway.port, timeout=10)
    body = json.dumps({'model': 'gpt-4o', 'messages': [
        {'role': 'user', 'content': 'warm-up'}]})
    headers = headers_of(gateway)
    headers['Authorization'] = 'Bearer ' + key
    try:
        c.request('POST', path, body, headers)
        answer = c.getresponse()
        return answer.status, dict(answer.getheaders()), \
            answer.read().decode(errors='replace')
    finally:
        c.close()


# how each is started: what it is, its command, its environment, its headers

def folder_of(rig, name):
    path = os.path.join(rig.build, 'peers', name)
    reason = path + '.reason'
    if os.path.exists(reason):
        with open(reason) as f:
            raise Missing('not installed: ' + f.read().strip())
    if not os.path.exists(path + '.state'):
        raise Missing('not installed: make bench-peers')
    return path


def filled(source, target, values):
    with open(os.path.join(HERE, source)) as f:
        text = f.read()
    with open(target, 'w') as f:
        f.write(re.sub(r'@([A-Z_]+)@', lambda m: values[m.group(1)], text))
    return target


def values_of(rig, port, folder):
    host, number = rig.upstream.rsplit(':', 1)
    return {'PORT': str(port), 'UPSTREAM': rig.upstream, 'HERE': HERE,
            'UPSTREAM_HOST': host, 'UPSTREAM_PORT': number,
            'RUN_DIR': folder, 'CONNECTIONS': str(rig_module.CONNECTIONS),
            'USER': 'user root;' if os.getuid() == 0 else '',
            'TENANTS': rig.tenants('limits'), 'SECRET': SECRET,
            'REDIS': 'off'}


def lua(rig, folder, values, redis='off'):
    folder_of(rig, 'lua')
    found = re.search(r'--modules-path=(\S+)', said_by(rig.nginx, '-V'))
    values.update(MODULES=found.group(1) if found else '', REDIS=redis,
                  HERE=os.path.join(HERE, 'lua'))
    for sub in ('logs', 'tmp'):
        os.mkdir(os.path.join(folder, sub))
    conf = filled('lua/nginx.conf', folder + '/nginx.conf', values)
    return {'command': [rig.nginx, '-p', folder + '/', '-c', conf, '-e',
                        folder + '/logs/error.log', '-g', 'daemon off;'],
            'version': lambda peer, answer: 'nginx %s, %s' % (
                version(r'nginx/(\S+)', rig.nginx, '-v'),
                ask(peer, '/version')[2])}


def lua_redis(rig, folder, values):
    return lua(rig, folder, values, rig.start_redis())


def haproxy(rig, folder, values):
    folder_of(rig, 'haproxy')
    with open(folder + '/keys.map', 'w') as f:
        f.write('%s bench\n' % DIGEST)
    conf = filled('haproxy/haproxy.cfg', folder + '/haproxy.cfg', values)
    binary = shutil.which('haproxy', path=os.environ['PATH'] + ':/usr/sbin')
    return {'command': [binary, '-db', '-f', conf],
            'version': lambda peer, answer:
                version(r'version (\S+)', binary, '-v')}


def envoy(rig, folder, values):
    here = folder_of(rig, 'envoy')
    conf = filled('envoy/envoy.yaml', folder + '/envoy.yaml', values)
    binary = said_by(here + '/bin/python', '-c',
                     'import envoy, os; print(os.path.join(os.path.dirname('
                     'envoy.__file__), "_bin", "envoy"))')
    return {'command': [binary, '-c', conf, '--concurrency', '1',
                        '--log-level', 'warning', '--use-dynamic-base-id'],
            'version': lambda peer, answer:
                version(r'version: \w+/([^/\s]+)', binary, '--version')}


def bifrost(rig, folder, values):
    binary = folder_of(rig, 'bifrost') + '/bifrost-http'
    values['SECRET'] = VIRTUAL_KEY
    filled('bifrost/config.json', folder + '/config.json', values)
    return {'command': [binary, '-app-dir', folder, '-host', '127.0.0.1',
                        '-port', values['PORT'], '-log-level', 'error'],
            'env': {'GOMAXPROCS': '1'}, 'model': 'openai/gpt-4o',
            'headers': {'x-bf-vk': VIRTUAL_KEY},
            'version': lambda peer, answer: version(
                r'\smod\s+\S+\s+(\S+)', 'go', 'version', '-m', binary)}


def portkey(rig, folder, values):
    here = folder_of(rig, 'portkey') + '/node_modules/@portkey-ai/gateway'
    with open(here + '/package.json') as f:
        release = json.load(f)['version']
    return {'command': ['node', here + '/build/start-server.js',
                        '--headless', '--port=' + values['PORT']],
            'env': {'NODE_ENV': 'production'},
            'headers': {'x-portkey-provider': 'openai',
                        'x-portkey-custom-host': 'http://%s/v1'
                                                 % rig.upstream},
            'version': lambda peer, answer: '%s, node %s' % (
                release, said_by('node', '--version'))}


def litellm(rig, folder, values):
    here = folder_of(rig, 'litellm') + '/bin/'
    conf = filled('litellm/config.yaml', folder + '/config.yaml', values)
    shutil.copy(os.path.join(HERE, 'litellm', 'custom_auth.py'), folder)
    return {'command': [here + 'litellm', '--config', conf, '--host',
                        '127.0.0.1', '--port', values['PORT'],
                        '--num_workers', '1', '--telemetry', 'False'],
            'env': {'LITELLM_MODE': 'PRODUCTION', 'LITELLM_LOG': 'ERROR',
                    'LITELLM_MASTER_KEY': 'sk-master',
                    'LITELLM_LOCAL_MODEL_COST_MAP': 'True',
                    'BENCH_KEY_SHA256': DIGEST},
            'version': lambda peer, answer: '%s, %s' % (
                answer.get('x-litellm-version', 'unknown'),
                said_by(here + 'python', '--version'))}


# name: how it is started, what it is called, what of the policy is on
PEERS = {
    'lua': (lua, 'nginx + Lua',
            'key, model, requests and tokens per minute, slots'),
    'lua-redis': (lua_redis, 'nginx + Lua + Redis',
                  'the same, requests and tokens kept by Redis'),
    'haproxy': (haproxy, 'HAProxy',
                'key, model, requests per minute, slots; no tokens'),
    'envoy': (envoy, 'Envoy',
              'key, requests per minute; no model, no tokens'),
    'bifrost': (bifrost, 'Bifrost',
                'virtual key, requests and tokens per minute'),
    'portkey': (portkey, 'Portkey',
                'no keys and no limits: its open gateway has none'),
    'litellm': (litellm, 'LiteLLM',
                'key, requests and tokens per minute, slots; one worker, no '
                'database'),
}
OURS = {
    'limits': ('ngx-llm', 'key, model, requests, tokens, days, money and '
               'slots of key and team'),
    'exact': ('ngx-llm + Redis', 'the same, kept by Redis exactly'),
}
KEYLESS = ('portkey',)

# those that compile or fill caches while they run
SLOW = ('bifrost', 'portkey', 'litellm')


def last_word(log, folder, answer):
    """Why it does not run, as far as it says so."""
    lines = []
    for path in (log, os.path.join(folder, 'logs', 'error.log')):
        if os.path.exists(path):
            with open(path, errors='replace') as f:
                lines += [line.strip() for line in f if line.strip()
                          and not re.match(r'\s+at ', line)]
    errors = [line for line in lines
              if re.search('error|exception|emerg|fail|denied', line, re.I)]
    return (answer.get('wrong') or (errors or lines or ['no word'])[-1])[:200]


def start(rig, name):
    """A peer that does not run is as good as one that is not installed."""
    rig.start_mock()
    port = rig_module.free_port()
    folder = tempfile.mkdtemp(prefix=name + '-', dir=rig.dir)
    log = os.path.join(folder, 'peer.log')

    how = PEERS[name][0](rig, folder, values_of(rig, port, folder))
    if not how['command'][0] or not shutil.which(how['command'][0]):
        raise Missing('not installed: no %s'
                      % (how['command'][0] or PEERS[name][1]))

    process = rig.spawn(how['command'], rig.gateway_core, log, cwd=folder,
                        env=dict(os.environ, **how.get('env', {})))
    peer = Peer(name, port, process, how)
    answer = {}

    deadline = time.monotonic() + START
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer, said = ask(peer)
            if status == 200 and SAYS in said:
                break
            answer = {'wrong': '%d %s' % (status, said)}
        if process.poll() is not None or time.monotonic() > deadline:
            rig.stop(process, seconds=2)
            raise Missing('does not run: ' + last_word(log, folder, answer))
        time.sleep(0.1)

    peer.told = how['version'](peer, answer)

    # a gateway that lets everybody in would be measured without its keys
    if name not in KEYLESS and name != 'bifrost' \
            and ask(peer, key='sk-llm-nobody')[0] != 401:
        rig.stop(process, seconds=2)
        raise Missing('takes any key')
    return peer


# runs

@contextlib.contextmanager
def alone(running, name):
    """The peers that are not being measured do not run: some have timers that
    keep the core busy."""
    def tell(sig):
        for other in running:
            if other in PEERS and other != name:
                for pid in members(running[other]):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sig)

    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


@contextlib.contextmanager
def streaming(rig, **rule):
    """Headers of the load may not come through, so the mock is told."""
    rig.script_mock({'rules': [dict(rule, match={'stream': True})]})
    try:
        yield
    finally:
        rig.script_mock({})


def load(rig, gateway, args):
    """What load saw, and what gateway and rig spent on it."""
    more = ['--model', getattr(gateway, 'model', 'gpt-4o')]
    for pair in getattr(gateway, 'headers', {}).items():
        more += ['-H', '%s: %s' % pair]

    mock, cpu, steal = cpu_ns(rig.mock.pid), spent(gateway), steal_ticks()
    seen = rig.load(gateway, args + ['--size', SIZE] + more)
    took = seen['seconds']

    cpu = spent(gateway) - cpu
    return seen, {
        'cpu': cpu / 1e3, 'util': cpu / 1e9 / took,
        'rig_util': seen['cpu_seconds'] / took
                    + (cpu_ns(rig.mock.pid) - mock) / 1e9 / took,
        'steal': (steal_ticks() - steal) / os.sysconf('SC_CLK_TCK'),
        'load': os.getloadavg()[0]}


def closed(rig, gateway, seconds):
    return load(rig, gateway, ['-c', 32, '-d', seconds, '--expect', SAYS])


def streams(rig, gateway, seconds):
    with streaming(rig, chunks=EVENTS, pace_ms=PACE):
        seen, cost = load(rig, gateway, [
            '--stream', '-c', 64, '-r', STREAMS, '-d', seconds,
            '--expect', ENDS])
    if seen['events'] < seen['ok'] * EVENTS:
        raise Failure('%s: %d events in %d streams of %d' % (
            gateway.name, seen['events'], seen['ok'], EVENTS))
    return seen, cost


def loop_of(rig, gateway, seconds):
    """With the usual --seconds it is LOOP long for those that are slow and a
    part of it for the others."""
    slow = gateway.name in SLOW
    seen, got = closed(rig, gateway,
                       LOOP * seconds / 0.15 / (1 if slow else PARTS))
    got.update(cpu_us=got.pop('cpu') / seen['ok'], rps=seen['rps'])
    return got


def rates_of(rig, gateway, seconds):
    """At a constant rate: requests, then streams."""
    each = seconds / 0.15
    seen, cost = load(rig, gateway, ['-c', 64, '-r', RATE, '-d', 0.8 * each,
                                     '--expect', SAYS])
    got = {'p50': seen['latency']['p50'], 'steal': cost['steal']}

    seen, cost = streams(rig, gateway, each)
    got['ttft'] = seen['ttft']['p50']
    got['event_us'] = cost['cpu'] / seen['events']
    got['steal'] += cost['steal']
    return got


def round_of(rig, rnd, running, attempt, seconds, whole):
    """A closed loop of each that is not slow, close in time to that of the
    others; in a whole round all have one, and the rates."""
    def turn(what, names):
        names = list(names)
        rnd.shuffle(names)
        for name in names:
            if name in running:
                with alone(running, name):
                    rig.calm.wait(rig.cores)
                    yield name, attempt(name, what, seconds)

    got = {name: {} for name in running}
    for name, one in turn(loop_of, [name for name in running
                                    if whole or name not in SLOW]):
        got[name].update(one or {})

    if whole:
        for name, rates in turn(rates_of, running):
            if rates:
                got[name].update(rates,
                                 steal=rates['steal'] + got[name]['steal'])
    return got


def warm_up(rig, gateway, whole):
    """Compilers and caches take a while: some seconds, and on until a second
    costs no less CPU time per request than the one before."""
    slow = gateway.name in SLOW
    costs = []
    while not costs or slow and len(costs) < 10 and (
            len(costs) < 4 or costs[-1] < costs[-2] * 0.95):
        seen, cost = closed(rig, gateway, 1 if slow else 0.2)
        costs.append(cost['cpu'] / seen['ok'])
    if whole:
        streams(rig, gateway, 1 if slow else 0.3)


# memory

def open_stream(gateway):
    body = json.dumps({
        'model': getattr(gateway, 'model', 'gpt-4o'), 'stream': True,
        'messages': [{'role': 'user', 'content': 'x' * (SIZE - 90)}]})
    s = socket.create_connection(('127.0.0.1', gateway.port), 10)
    s.settimeout(30)
    s.sendall(('POST %s HTTP/1.1\r\nHost: bench\r\n%s'
               'Content-Length: %d\r\n\r\n%s' % (
                   PATH, ''.join('%s: %s\r\n' % pair for pair
                                 in headers_of(gateway).items()),
                   len(body), body)).encode())
    return s


def memory(rig, gateway):
    """All its processes together, while so many streams are silent."""
    opened = []
    try:
        with streaming(rig, chunks=2, pace_ms=60000):
            for _ in range(IDLE):
                opened.append(open_stream(gateway))
            for s in opened:
                first_event(s)
            time.sleep(0.3)
            return resident(gateway)
    except OSError as e:
        raise Failure('%s: idle streams: %s' % (gateway.name, e))
    finally:
        for s in opened:
            s.close()


# the section

def enough_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096 and (hard == resource.RLIM_INFINITY or hard >= 4096):
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))


def times(row, metric):
    if metric not in row:
        return ''
    m = row[metric]
    text = '%.0f' % m['median'] if m['median'] >= 100 \
        else '%.1f' % m['median']
    if 'ratio' in m:
        text += ' (%s×)' % ('%.0f' % m['ratio'] if m['ratio'] >= 100 else
                            '%.2g' % m['ratio'] if m['ratio'] < 0.1 else
                            '%.2f' % m['ratio'] if m['ratio'] < 10 else
                            '%.1f' % m['ratio'])
    return text


def added(row, metric):
    if metric not in row:
        return ''
    m = row[metric]
    return '%.0f' % m['median'] if 'added' not in m \
        else '%+.0f' % m['added']


def table(summary, titles, missing):
    head = ['target', 'CPU µs a request', 'requests/s', 'p50 µs',
            'first event µs', 'CPU µs an event',
            'MiB at %d streams' % IDLE]
    rows = []
    for name, row in summary.items():
        rows.append([titles[name], times(row, 'cpu_us'), times(row, 'rps'),
                     added(row, 'p50'), added(row, 'ttft'),
                     times(row, 'event_us'), times(row, 'rss')])
    for name, why in missing.items():
        rows.append([titles[name], why] + [''] * (len(head) - 2))
    return {'head': head, 'rows': rows}


def peers(rig, rnd, say, o):
    enough_files()
    missing, running = {}, {}
    titles = {'plain': 'plain nginx', 'twin': 'plain nginx, twin (A/A)'}
    titles.update({name: title for name, (title, _) in OURS.items()})
    titles.update({name: p[1] for name, p in PEERS.items()})

    names = ['plain', 'twin', 'limits']
    if shutil.which('redis-server'):
        names.append('exact')
    for name in names:
        running[name] = rig.instance(name)

    def drop(name, why):
        missing[name] = why
        peer = running.pop(name, None)
        if peer:
            rig.stop(peer.process, seconds=3)

    def attempt(name, what, *args):
        """What fails a peer does not fail the others, nor the run."""
        try:
            return what(rig, running[name], *args)
        except Failure as e:
            if name not in PEERS:
                raise
            drop(name, 'failed: ' + str(e)[:300])

    try:
        for name in PEERS:
            try:
                running[name] = start(rig, name)
            except (Missing, Failure, rig_module.Skipped, OSError,
                    subprocess.SubprocessError) as e:
                missing[name] = str(e)

        for name in list(running):
            attempt(name, warm_up, True)

        rounds, count = [], o.rounds
        for n in range(count):
            whole = n % PARTS == 0
            if n > 0:
                # nginx costs a little more or less for as long as it lives
                for name in rnd.sample(names, len(names)):
                    running[name] = rig.renew(name)
                    attempt(name, warm_up, whole)
            rounds.append(round_of(rig, rnd, running, attempt, o.seconds,
                                   whole))
            say(n + 1, count)

        rss = {name: attempt(name, memory) for name in list(running)}
        told = {name: running[name].told for name in running
                if name in PEERS}
    finally:
        for name in [n for n in running if n in PEERS]:
            rig.stop(running.pop(name).process, seconds=3)

    done = names + [name for name in PEERS if name not in missing]
    rounds = [{name: r[name] for name in done} for r in rounds]
    out = timed.result(
        'Peers: other gateways with their keys and limits, on the same core',
        rounds, done, ['cpu_us', 'rps', 'p50', 'ttft', 'event_us'],
        'cpu_us', 'µs of CPU per request')

    for name in done:
        out['summary'][name]['rss'] = {'median': rss[name] / 2 ** 20}
        if name != 'plain':
            out['summary'][name]['rss']['ratio'] = rss[name] / rss['plain']
    out['what'] = titles
    out['versions'] = told
    out['missing'] = missing
    out['table'] = table(out['summary'], titles, missing)
    out['notes'] += ['in brackets: times plain nginx; with a sign: more than '
                     'plain nginx; medians of the rounds',
                     'p50 at %d requests a second; first event and CPU per '
                     'event (with its share of the request) at %d streams a '
                     'second of %d events, one each %d ms; MiB of all its '
                     'processes' % (RATE, STREAMS, EVENTS, PACE)]
    out['notes'] += ['%s: %s' % OURS[name] for name in OURS if name in done]
    out['notes'] += ['%s (%s): %s' % (titles[name], told[name],
                                    PEERS[name][2]) for name in told]
    return out
