"""The rig: mock, Redis, nginx instances and load, each on its core, in a
temporary folder that is gone afterwards."""

import contextlib
import ctypes
import glob
import hashlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from calm import Calm

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATH = '/v1/chat/completions'
SECRET = 'sk-llm-' + 'bench' * 8
CONNECTIONS = 8192
PR_SET_PDEATHSIG = 1

# the kinds of gateway that check every limit, and those with a cache
FULL = ('limits', 'exact', 'leased')
CACHE = ('cache', 'redis')

# who takes tasks and runs none, who runs them, who does both for the counters,
# and two workers that do both for a key of few slots; and whose queue is in
# the same Redis
QUEUES = {'submit': 'tasks', 'run': 'tasks', 'counted': 'counted',
          'beside': 'beside'}
SLOTS = 32

# What a kind of gateway may end with: TLS to the provider, HTTP/2 (clear text,
# by prior knowledge) to the client.
TLS, HTTP2 = '-tls', '-h2'

# of a second, as h2load says them
UNITS = {'s': 1, 'ms': 1e3, 'us': 1e6}

# nginx alone: as a proxy, and with an answer that is in its configuration
PLAIN = ('plain', 'return')

LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """Something that has to work did not."""


class Skipped(Exception):
    """Something that this machine does not have."""


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def cpu_ns(pid):
    """Time on the CPU of all threads, from the scheduler's own accounting."""
    total = 0
    for path in glob.glob('/proc/%d/task/*/schedstat' % pid):
        with open(path) as f:
            total += int(f.read().split()[0])
    return total


def base(kind):
    """Without TLS or HTTP/2."""
    return re.sub('(%s|%s)$' % (TLS, HTTP2), '', kind)


def chat(size, stream=False):
    """A request of so many bytes."""
    head = '{"model":"gpt-4o",%s"messages":[{"role":"user","content":"' \
        % ('"stream":true,' if stream else '')
    return head.ljust(size - 4, 'x') + '"}]}'


def steal_ticks():
    with open('/proc/stat') as f:
        fields = f.readline().split()
    return int(fields[8]) if len(fields) > 8 else 0


def cores():
    """The gateway's core, and the one (or two) of mock, Redis and load."""
    have = sorted(os.sched_getaffinity(0))
    if len(have) == 1:
        return have[0], have[0], have[0]
    return have[0], have[1], have[min(2, len(have) - 1)]


@contextlib.contextmanager
def awake():
    """An idle processor waits instead of sleeping as long as this file is
    open (the kernel's PM QoS).  In a virtual machine one that sleeps is woken
    by way of the hypervisor, which takes longer than what is to be measured,
    and leaves the caches to others meanwhile."""
    try:
        f = open('/dev/cpu_dma_latency', 'wb', buffering=0)
    except OSError as e:
        raise Skipped('processors cannot be kept awake: %s' % e.strerror)
    with f:
        f.write(struct.pack('i', 0))
        yield


class Gateway:
    """An nginx with one worker, or one process under a tool."""

    def __init__(self, name, port, process):
        self.name = name
        self.port = port
        self.process = process
        self.url = 'http://127.0.0.1:%d%s' % (port, PATH)
        self.http2 = None       # a URL, if the load is to speak HTTP/2
        self.worker = process.pid
        self.workers = [process.pid]

    def cpu_ns(self):
        return sum(cpu_ns(pid) for pid in self.workers)

    def find_workers(self, n):
        path = '/proc/%d/task/%d/children' % (self.process.pid,
                                              self.process.pid)
        with open(path) as f:
            self.workers = [int(pid) for pid in f.read().split()]
        if len(self.workers) != n:
            raise Failure('%s: %d workers' % (self.name, len(self.workers)))
        self.worker = self.workers[0]


class Rig:
    def __init__(self, build, nginx):
        self.build = build
        self.nginx = nginx
        self.gateway_core, self.mock_core, self.load_core = cores()
        self.cores = [self.gateway_core, self.mock_core, self.load_core]
        self.calm = Calm()
        self.calm.learn(self.cores)
        self.children = []
        self.shared = {}
        self.upstream = None
        self.mock = None
        self.tls_upstream = None
        self.tls_mock = None
        self.certificate = None
        self.redis = None
        self.queues = {}
        self.lengths = {}
        self.dir = tempfile.mkdtemp(prefix='ngx-llm-bench-')

    # processes

    def spawn(self, command, core, log, **more):
        def child():
            os.setsid()
            os.sched_setaffinity(0, {core})
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with open(log, 'ab') as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=child, **more)
        self.children.append(process)
        return process

    def stop(self, process, sig=signal.SIGTERM, seconds=10, tries=1):
        """True if it ended by itself.  A single process may be on its way
        into epoll_wait() and sleep over a signal: hence more tries."""
        ended = process.poll() is not None
        while not ended and tries:
            tries -= 1
            process.send_signal(sig)
            try:
                process.wait(seconds)
                ended = True
            except subprocess.TimeoutExpired:
                pass
        if not ended:
            # a session of its own: its workers are in the group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process in self.children:
            self.children.remove(process)
        return ended

    def close(self):
        for process in reversed(list(self.children)):
            self.stop(process, seconds=3)
        shutil.rmtree(self.dir, ignore_errors=True)

    # what everything talks to

    def start_mock(self):
        if not self.mock:
            self.mock, self.upstream = self.mock_server('mock')

    def start_tls_mock(self):
        """A second one, with a certificate for "localhost"."""
        if self.tls_mock:
            return
        if not shutil.which('openssl'):
            raise Skipped('no openssl')

        self.certificate = os.path.join(self.dir, 'cert.pem')
        key = os.path.join(self.dir, 'key.pem')
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
             'ec_paramgen_curve:P-256', '-nodes', '-keyout', key,
             '-out', self.certificate, '-days', '2', '-subj',
             '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
            check=True, capture_output=True)
        self.tls_mock, self.tls_upstream = self.mock_server(
            'tls-mock', '--tls', self.certificate, key)

    def mock_server(self, name, *options):
        log = os.path.join(self.dir, name + '.log')
        process = self.spawn([os.path.join(self.build, 'mock'), '--port',
                              '0', '--journal', '0'] + list(options),
                             self.mock_core, log)
        for _ in range(100):
            with open(log) as f:
                found = re.search(r'listening on (\S+)', f.read())
            if found:
                return process, found.group(1)
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise Failure('the mock does not start: see %s' % log)

    def mock_ns(self):
        """CPU time of the mocks so far."""
        return sum(cpu_ns(mock.pid) for mock in (self.mock, self.tls_mock)
                   if mock)

    def start_redis(self):
        if not self.redis:
            self.redis = 'unix:' + self.redis_server(
                'redis', '--maxmemory', '256mb',
                '--maxmemory-policy', 'allkeys-lru')[1]
        return self.redis

    def start_queue(self, name):
        """A Redis for tasks: its process and its socket."""
        if name not in self.queues:
            self.queues[name] = self.redis_server(name)
        return self.queues[name]

    def redis_server(self, name, *options):
        if not shutil.which('redis-server'):
            raise Skipped('no redis-server')

        path = os.path.join(self.dir, name + '.sock')
        process = self.spawn(
            ['redis-server', '--port', '0', '--unixsocket', path,
             '--save', '', '--appendonly', 'no', '--dir', self.dir]
            + list(options),
            self.mock_core, os.path.join(self.dir, name + '.log'))
        for _ in range(100):
            if os.path.exists(path):
                return process, path
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise Failure('Redis does not start')

    # nginx

    def tenants(self, kind):
        """As shipped, or every limit there is, on key and team alike."""
        what = 'full' if kind in FULL else \
            'slots' if kind == 'beside' else 'tenants'
        path = os.path.join(self.dir, what + '.json')
        if not os.path.exists(path):
            limits = {'requests_per_minute': 1000000000,
                      'concurrency': SLOTS if what == 'slots' else 5000}
            if what == 'full':
                limits.update({
                    'tokens_per_minute': 1000000000000,
                    'requests_per_day': 1000000000000,
                    'tokens_per_day': 100000000000000,
                    'budget': {'usd': 100000000, 'period': 'month'}})
            digest = hashlib.sha256(SECRET.encode()).hexdigest()
            policy = {'teams': {'bench': limits},
                      'keys': {'bench': dict(limits, team='bench',
                                             sha256=digest)}}
            with open(path, 'w') as f:
                json.dump(policy, f, indent=2)
        return path

    def redis_for(self, kind):
        if kind in QUEUES:
            return '"unix:%s" limits=%s' % (
                self.start_queue(QUEUES[kind])[1],
                'exact' if kind == 'beside' else 'off')
        if kind not in CACHE + ('exact', 'leased'):
            return 'off'
        # a machine that is busy with something else must not make misses
        return '"%s" timeout=1s limits=%s' % (
            self.start_redis(), 'off' if kind in CACHE else kind)

    def redis_commands(self):
        """Commands that clients sent to the rig's Redis so far."""
        said = subprocess.run(
            ['redis-cli', '-s', self.redis[len('unix:'):], 'info', 'stats'],
            capture_output=True, text=True, timeout=10).stdout
        return int(re.search(r'total_commands_processed:(\d+)',
                             said).group(1))

    def mock_requests(self):
        """Calls that the provider has had so far."""
        c = http.client.HTTPConnection(self.upstream, timeout=10)
        try:
            c.request('GET', '/__mock/stats')
            return json.loads(c.getresponse().read())['requests']
        finally:
            c.close()

    def script_mock(self, script):
        c = http.client.HTTPConnection(self.upstream, timeout=10)
        try:
            c.request('POST', '/__mock/script', json.dumps(script))
            answer = c.getresponse()
            if answer.status != 200:
                raise Failure('the mock: %s' % answer.read()[:200])
        finally:
            c.close()

    def config(self, kind, port, folder, http2=None):
        """plain, return (what a hit answers, from the configuration), ours
        (no cache), shipped (the same with its access log), cache (ours with
        a cache in memory and Redis), redis (in Redis alone), limits, exact,
        leased (no cache, every limit: alone, or kept by Redis), and those
        with a queue of tasks (no cache).  Any of them with "-tls": TLS to
        the provider; with "-h2": a second port that speaks HTTP/2."""

        tls = kind.endswith(TLS)
        kind = base(kind)
        upstream = self.tls_upstream if tls else self.upstream
        user = 'user root;' if os.getuid() == 0 else ''
        name = 'bench/plain.conf' if kind in PLAIN else 'config/nginx.conf'

        with open(os.path.join(TOP, name)) as f:
            text = f.read()

        values = {
            'USER': user, 'WORKERS': '2' if kind == 'beside' else '1',
            'CONNECTIONS': str(CONNECTIONS),
            'MODULE': os.environ.get('MODULE') or os.path.join(
                self.build, 'ngx_http_llm_module.so'),
            'REDIS': self.redis_for(kind),
            'TENANTS': '"%s"' % self.tenants(kind), 'KEY': '',
            'PRICES': '"%s"' % os.path.join(TOP, 'config/prices.json'),
            'UPSTREAM': upstream, 'PORT': str(port),
            'SCHEME': 'https' if tls else 'http',
            'BASE': '/v1', 'HOST': upstream, 'NAME': 'localhost',
            'ADMIN_PORT': str(free_port()), 'RUN_DIR': folder,
            'RESOLVER': '', 'SERVER': 'server %s;' % upstream,
            'CA': self.certificate if tls
                  else '/etc/ssl/certs/ca-certificates.crt',
        }
        if os.environ.get('MODULE') == '':
            # linked into the binary
            text = text.replace('load_module @MODULE@;', '')

        if http2:
            text, n = re.subn(r'( +)listen 127\.0\.0\.1:@PORT@;',
                              r'\g<0>\n\1listen 127.0.0.1:%d http2;' % http2,
                              text)
            if n != 1:
                raise Failure('%s: no place for HTTP/2' % name)

        text = re.sub(r'@([A-Z_]+)@', lambda m: values[m.group(1)], text)

        if kind == 'return':
            text = re.sub(r'(location / \{).*?\n( +)\}\n',
                          lambda m: "%s\n    %sdefault_type application/json;"
                          "\n    %sreturn 200 '%s';\n%s}\n"
                          % (m[1], m[2], m[2], self.answer(), m[2]),
                          text, 1, re.S)

        if kind == 'submit':
            text, n = re.subn(r'\bllm_tasks on\b', r'\g<0> run=off', text)
            if n != 1:
                raise Failure('config/nginx.conf: no tasks')

        if kind == 'redis':
            text, n = re.subn(r'(llm_zone [^;]*);', r'\1 cache=0;', text)
            if n != 1:
                raise Failure('config/nginx.conf: no zone without a cache')

        if kind not in PLAIN + CACHE:
            text, n = re.subn(r'llm_cache on [^;]*;', 'llm_cache off;', text)
            if n != 1:
                raise Failure('config/nginx.conf: no cache to turn off')

        if kind not in PLAIN + ('shipped',):
            text, n = re.subn(r'\baccess_log logs/\S+ llm;',
                              'access_log off;', text)
            if n != 1:
                raise Failure('config/nginx.conf: no access_log to turn off')
        return text

    def answer(self):
        """The mock's, as a string of a configuration."""
        said = self.ask(self.direct())[2].decode()
        if re.search(r"['\\$]", said):
            raise Failure('an answer that a configuration cannot hold')
        return said

    def start(self, kind, name=None, tool=(), seconds=10, env=None):
        """tool: a command that runs nginx as a single process."""
        self.start_mock()
        if kind.endswith(TLS):
            self.start_tls_mock()

        name = name or kind
        port = free_port()
        http2 = free_port() if kind.endswith(HTTP2) else None
        folder = tempfile.mkdtemp(prefix=name + '-', dir=self.dir)
        for sub in ('logs', 'tmp'):
            os.mkdir(os.path.join(folder, sub))

        conf = os.path.join(folder, 'nginx.conf')
        with open(conf, 'w') as f:
            f.write(self.config(kind, port, folder, http2))
        with open(os.path.join(folder, 'admin-secret'), 'w') as f:
            f.write(SECRET + '\n')

        told = 'daemon off;' + (' master_process off;' if tool else '')
        log = os.path.join(folder, 'logs', 'error.log')
        process = self.spawn(list(tool) + [self.nginx, '-p', folder + '/',
                                           '-c', conf, '-e', log,
                                           '-g', told],
                             self.gateway_core,
                             os.path.join(folder, 'logs', 'nginx.log'),
                             cwd=folder, env=env)
        gateway = Gateway(name, port, process)
        gateway.dir = folder
        if http2:
            gateway.http2 = 'http://127.0.0.1:%d%s' % (http2, PATH)

        deadline = time.monotonic() + seconds
        while not self.answers(gateway):
            if process.poll() is not None or time.monotonic() > deadline:
                said = ''
                for path in (log, os.path.join(folder, 'logs', 'nginx.log')):
                    if os.path.exists(path):
                        with open(path, errors='replace') as f:
                            said += f.read()[-500:]
                raise Failure('nginx (%s) does not start: %s' % (name, said))
            time.sleep(0.05)

        if not tool:
            gateway.find_workers(2 if kind == 'beside' else 1)
        return gateway

    def answers(self, gateway):
        try:
            return self.ask(gateway)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, gateway, body=None, headers=None):
        c = http.client.HTTPConnection('127.0.0.1', gateway.port, timeout=10)
        body = body or json.dumps({
            'model': 'gpt-4o',
            'messages': [{'role': 'user', 'content': 'warm-up'}]})
        try:
            c.request('POST', PATH, body, dict(headers or {}, **{
                'Authorization': 'Bearer ' + SECRET,
                'Content-Type': 'application/json'}))
            answer = c.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            c.close()

    def instance(self, name):
        """The long-lived ones, started when first asked for."""
        if name not in self.shared:
            kind = re.sub('^twin', 'plain', name)
            self.shared[name] = self.start(kind, name)
        return self.shared[name]

    def renew(self, name):
        """The same, started again: its memory lies elsewhere."""
        self.stop(self.shared.pop(name).process)
        return self.instance(name)

    def direct(self):
        self.start_mock()
        port = int(self.upstream.rsplit(':', 1)[1])
        return Gateway('direct', port, self.mock)

    # load

    def load(self, gateway, args, seconds=60):
        if gateway.http2:
            return self.h2load(gateway, args, seconds)
        command = [os.path.join(self.build, 'load'),
                   '-H', 'Authorization: Bearer ' + SECRET] + \
                  [str(a) for a in args] + [gateway.url]
        done = self.run_load(gateway, command, seconds)
        said = done.stdout.decode(errors='replace').strip()
        if done.returncode != 0 or not said:
            # failing fast would look like speed
            raise Failure('%s: load failed: %s %s' % (
                gateway.name, said[:300],
                done.stderr.decode(errors='replace')[:300]))
        return json.loads(said.splitlines()[-1])

    def run_load(self, gateway, command, seconds):
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=seconds,
                preexec_fn=lambda: os.sched_setaffinity(
                    0, {self.load_core}))
        except subprocess.TimeoutExpired:
            raise Failure('%s: load took over %d s' % (gateway.name, seconds))

    def h2load(self, gateway, args, seconds):
        """args: of h2load, and "--size" with "--stream" as load has them.
        Gives what load gives, as far as h2load tells it."""
        if not shutil.which('h2load'):
            raise Skipped('no h2load')

        args, size, stream = list(args), 1024, '--stream' in args
        if stream:
            args.remove('--stream')
        if '--size' in args:
            at = args.index('--size')
            size = args[at + 1]
            del args[at:at + 2]

        log = os.path.join(self.dir, 'h2load.log')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
        command = ['h2load', '-d', self.h2_body(size, stream),
                   '--log-file', log,
                   '-H', 'Authorization: Bearer ' + SECRET,
                   '-H', 'Content-Type: application/json'] + \
                  [str(a) for a in args] + [gateway.http2]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = self.run_load(gateway, command, seconds)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = done.stdout.decode(errors='replace')

        asked = re.search(r'requests: \d+ total, \d+ started, (\d+) done, '
                          r'(\d+) succeeded, (\d+) failed, (\d+) errored, '
                          r'(\d+) timeout', said)
        # "traffic: 1.20MB (1258291) total, ..., 1.01MB (1059061) data"
        data = re.search(r'\((\d+)\) data', said)
        took = re.search(r'finished in ([\d.]+)(us|ms|s), ([\d.]+) req/s',
                         said)
        if done.returncode != 0 or not asked or not data or not took:
            raise Failure('%s: h2load failed: %s %s' % (
                gateway.name, said[-300:],
                done.stderr.decode(errors='replace')[:300]))

        ok = int(asked[2])
        with open(log) as f:
            rows = [line.split() for line in f]
        times = sorted(int(row[2]) for row in rows if row[1] == '200')
        # an answer that is cut short has status 200, too
        length = self.answer_length(gateway, args, size, stream)
        if not ok or int(asked[1]) != ok or len(times) < ok \
                or int(data[1]) < ok * length:
            raise Failure('%s: h2load: %s; %s bytes of data, %d times 200, '
                          'an answer has %d bytes'
                          % (gateway.name, asked[0], data[1], len(times),
                             length))
        return {'requests': ok, 'ok': ok, 'rps': float(took[3]),
                'seconds': float(took[1]) / UNITS[took[2]],
                'latency': {p: times[min(len(times) - 1,
                                         int(len(times) * share))]
                            for p, share in (('p50', 0.5), ('p90', 0.9),
                                             ('p99', 0.99))},
                'events': 0, 'late': 0,
                'cpu_seconds': after.ru_utime + after.ru_stime
                               - before.ru_utime - before.ru_stime}

    def h2_body(self, size, stream):
        path = os.path.join(self.dir, 'body-%d%s.json'
                            % (size, '-stream' if stream else ''))
        if not os.path.exists(path):
            with open(path, 'w') as f:
                f.write(chat(size, stream))
        return path

    def answer_length(self, gateway, args, size, stream):
        """Of what the gateway answers to the same over HTTP/1.1."""
        headers = dict(re.split(r': *', args[i + 1], 1)
                       for i, a in enumerate(args) if a == '-H')
        headers.pop('x-mock-pace-ms', None)
        key = (gateway.name, size, stream, str(headers))
        if key not in self.lengths:
            status, _, said = self.ask(gateway, chat(size, stream), headers)
            if status != 200 or (stream and b'[DONE]' not in said):
                raise Failure('%s: %d, %r' % (gateway.name, status,
                                              said[-200:]))
            self.lengths[key] = len(said)
        return self.lengths[key]


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
