"""What the curves are measured on: a mock, a Redis, gateways with one worker,
and what one of them spends on something: user instructions, counted by
callgrind, or time of the processor."""

import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
MODEL = 'gpt-4o'

CONF = '''
%(user)s
daemon off;
%(master)s
worker_processes 1;
%(module)s
pid nginx.pid;
error_log error.log notice;

events { worker_connections 65536; }

http {
    access_log off;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    keepalive_requests 10000000;
    keepalive_timeout 1h;

    llm_zone llm %(zone)s;
    llm_redis %(redis)s;
    llm_tenants tenants.json;
    llm_provider mock uri=/llm/mock/ key=file:provider.key %(provider)s;
    llm_route * mock;

    upstream mock {
        server %(mock)s max_fails=0;
        keepalive 64;
        keepalive_requests 10000000;
    }

    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        listen 127.0.0.1:%(port2)d http2 backlog=4096;
        http2_max_concurrent_streams 1024;
        client_max_body_size 16m;
        client_body_buffer_size 1m;

        location / {
            llm_gateway;
            llm_timeout total=1h first_byte=1h between=1h;
        }

        location /llm/mock/ {
            internal;
            proxy_pass http://mock/v1/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization $llm_authorization;
            proxy_set_header Accept-Encoding "";
            proxy_buffering off;
            proxy_buffer_size 16k;
            proxy_busy_buffers_size 16k;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
            proxy_read_timeout 1h;
        }
    }

    server {
        listen 127.0.0.1:%(port3)d;
        location = /metrics { llm_metrics; }
    }
}
'''


class Failure(Exception):
    """Something that has to work did not."""


def secret(name):
    return 'sk-llm-' + hashlib.sha256(
        ('%s secret' % name).encode()).hexdigest()[:40]


def digest(name):
    return hashlib.sha256(secret(name).encode()).hexdigest()


def free_ports(n):
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(('127.0.0.1', 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def cpu_ns(pid):
    """Time on the processor of all threads, by the scheduler's account."""
    spent = 0
    for path in glob.glob('/proc/%d/task/*/schedstat' % pid):
        with open(path) as f:
            spent += int(f.read().split()[0])
    return spent


def anon(pid):
    """Private memory, in bytes."""
    with open('/proc/%d/status' % pid) as f:
        return int(re.search(r'^RssAnon:\s+(\d+)', f.read(), re.M)[1]) * 1024


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure('%s: not within %d s' % (what, seconds))
        time.sleep(0.01)


class Bed:
    def __init__(self, build, nginx):
        self.build = build
        self.nginx = nginx
        self.children = []
        self.dir = tempfile.mkdtemp(prefix='ngx-llm-scale-')
        self.mocks = 0

    def spawn(self, command, log, **more):
        def child():
            os.setsid()
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with open(log, 'ab') as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=out,
                                       preexec_fn=child, **more)
        self.children.append(process)
        return process

    def stop(self, process, seconds=5):
        if process not in self.children:
            return
        self.children.remove(process)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        # a group of its own: workers that outlived their master are in it
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def close(self):
        for process in reversed(list(self.children)):
            self.stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)

    def mock(self):
        """The address of a new one."""
        self.mocks += 1
        log = os.path.join(self.dir, 'mock%d.log' % self.mocks)
        process = self.spawn([os.path.join(self.build, 'mock'),
                              '--port', '0', '--journal', '0'], log)
        found = []

        def said():
            with open(log) as f:
                found[:] = re.findall(r'listening on (\S+)', f.read())
            return found or process.poll() is not None

        until(said, 10, 'mock')
        if not found:
            raise Failure('the mock does not start')
        return found[0]

    def redis(self, name='redis', *options):
        folder = os.path.join(self.dir, name)
        os.mkdir(folder)
        path = os.path.join(folder, 'redis.sock')
        process = self.spawn(
            ['redis-server', '--port', '0', '--unixsocket', path, '--save',
             '', '--appendonly', 'no', '--dir', folder] + list(options),
            os.path.join(folder, 'log'))
        redis = Redis(process, path)
        until(lambda: os.path.exists(path), 10, 'Redis')
        return redis

    def gateway(self, name, tenants, callgrind=False, seconds=60, **values):
        """tenants: of the file, or a path.  values: of CONF."""
        return Gateway(self, name, tenants, callgrind, seconds, values)


class Redis:
    def __init__(self, process, path):
        self.process = process
        self.path = path

    def command(self, *words):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.path)
            s.sendall(b'*%d\r\n' % len(words) + b''.join(
                b'$%d\r\n%s\r\n' % (len(w), w)
                for w in (str(w).encode() for w in words)))
            f = s.makefile('rb')
            return self.reply(f)

    def reply(self, f):
        line = f.readline().rstrip(b'\r\n')
        kind, rest = line[:1], line[1:].decode()
        if kind == b'-':
            raise Failure('redis: ' + rest)
        if kind == b'$':
            return None if rest == '-1' else f.read(int(rest) + 2)[:-2] \
                .decode()
        if kind == b'*':
            return [self.reply(f) for _ in range(max(0, int(rest)))]
        return rest

    def scripts(self):
        """How many there were, and µs that they took."""
        found = re.search(r'^cmdstat_evalsha:calls=(\d+),usec=(\d+)',
                          self.command('INFO', 'commandstats'), re.M)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def total(self):
        return int(re.search(r'total_commands_processed:(\d+)',
                             self.command('INFO', 'stats'))[1])


class Gateway:
    def __init__(self, bed, name, tenants, callgrind, seconds, values):
        self.bed = bed
        self.dir = tempfile.mkdtemp(prefix=name + '-', dir=bed.dir)
        self.callgrind = callgrind
        self.dumps = 0
        self.port, self.port2, self.port3 = free_ports(3)

        os.mkdir(self.path('tmp'))
        with open(self.path('provider.key'), 'w') as f:
            f.write('sk-provider-secret\n')
        if isinstance(tenants, str):
            os.link(tenants, self.path('tenants.json'))
        else:
            with open(self.path('tenants.json'), 'w') as f:
                json.dump(tenants, f)

        module = os.environ.get('MODULE', os.path.join(
            bed.build, 'ngx_http_llm_module.so'))
        values = dict({
            'user': 'user root;' if os.getuid() == 0 else '',
            'master': 'master_process off;' if callgrind else '',
            'module': 'load_module %s;' % module if module else '',
            'zone': '64m', 'redis': 'off', 'provider': '',
            'mock': None, 'port': self.port, 'port2': self.port2,
            'port3': self.port3}, **values)
        values['mock'] = values['mock'] or bed.mock()
        self.upstream = values['mock']
        with open(self.path('nginx.conf'), 'w') as f:
            f.write(CONF % values)

        tool = []
        if callgrind:
            # not counted until it is asked for, so that a start with a
            # million keys takes seconds
            tool = ['valgrind', '--tool=callgrind', '-q',
                    '--instr-atstart=no', '--callgrind-out-file='
                    + self.path('callgrind.out')]

        self.process = bed.spawn(
            tool + [bed.nginx, '-p', self.dir + '/', '-c',
                    self.path('nginx.conf'), '-e', self.path('error.log')],
            self.path('nginx.out'), cwd=self.dir)
        until(self.listens, seconds, name)
        self.pid = self.process.pid
        if not callgrind:
            until(self.has_worker, 10, name)

    def path(self, name):
        return os.path.join(self.dir, name)

    def listens(self):
        if self.process.poll() is not None:
            with open(self.path('error.log')) as f:
                raise Failure('nginx does not start: ' + f.read()[-600:])
        try:
            socket.create_connection(('127.0.0.1', self.port3), 1).close()
            return True
        except OSError:
            return False

    def has_worker(self):
        with open('/proc/%d/task/%d/children'
                  % (self.process.pid, self.process.pid)) as f:
            pids = [int(pid) for pid in f.read().split()]
        if pids:
            self.pid = pids[0]
        return bool(pids)

    def stop(self):
        self.bed.stop(self.process)

    def metric(self, name):
        """The sum of a metric's series."""
        s = socket.create_connection(('127.0.0.1', self.port3), 60)
        s.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
        text = b''
        while True:
            got = s.recv(1 << 16)
            if not got:
                break
            text += got
        s.close()
        return sum(float(v) for v in re.findall(
            r'^%s(?:\{[^}]*\})? ([\d.e+-]+)$' % name, text.decode(), re.M))

    def control(self, *args):
        done = subprocess.run(['callgrind_control'] + list(args)
                              + [str(self.process.pid)],
                              capture_output=True, text=True, timeout=120)
        if done.returncode != 0 or 'OK.' not in done.stdout:
            raise Failure('callgrind_control: ' + done.stdout + done.stderr)

    def instructions(self, run):
        """What a run takes, in user space."""
        self.control('-i', 'on')
        self.control('-z')
        run()
        self.control('-d')
        self.control('-i', 'off')
        self.dumps += 1
        with open(self.path('callgrind.out.%d' % self.dumps)) as f:
            return int(re.findall(r'^(?:summary|totals): (\d+)', f.read(),
                                  re.M)[-1])

    def cpu(self, run):
        """ns of the processor that a run takes."""
        before = cpu_ns(self.pid)
        run()
        return cpu_ns(self.pid) - before
