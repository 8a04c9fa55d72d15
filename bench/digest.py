"""The section of bench/digest.c: what the name of an answer costs."""

import glob
import json
import os
import re
import shutil
import subprocess

import stats
from rig import Failure, Skipped, TOP
from timed import summary

NAMES = ['sha256', 'scan', 'noted', 'digest']


def compiled(rig, name='digest'):
    """Linked with the core that lies here, which is built as a library and
    with the flags of the module that is installed (make release)."""
    cc = os.environ.get('CC') or 'cc'
    if not shutil.which(cc):
        raise Skipped('no ' + cc)

    path = os.path.join(rig.dir, name)
    library = os.path.join(rig.dir, 'libcore.so')
    core = os.path.join(TOP, 'ngx_module')
    flags = ['-std=gnu11', '-O3', '-fPIC', '-fstack-protector-strong',
             '-I' + core]

    for command in (
            [cc, *flags, '-flto=auto', '-fno-semantic-interposition',
             '-shared', '-o', library,
             *sorted(glob.glob(os.path.join(core, 'core', '*.c'))),
             '-ljansson', '-lcrypto', '-lm'],
            [cc, *flags, '-o', path,
             os.path.join(TOP, 'bench', name + '.c'), library,
             '-Wl,-rpath,' + rig.dir, '-lcrypto', '-lm']):
        done = subprocess.run(command, capture_output=True)
        if done.returncode != 0:
            raise Failure(name + '.c: '
                          + done.stderr.decode(errors='replace')[:300])
    return path


def run(rig, command):
    done = subprocess.run(
        command, capture_output=True, timeout=300,
        preexec_fn=lambda: os.sched_setaffinity(0, {rig.gateway_core}))
    if done.returncode != 0:
        raise Failure('%s: %s' % (command[0],
                                  done.stderr.decode(errors='replace')[:300]))
    return done.stdout.decode()


def digest(rig, rnd, say, o):
    path = compiled(rig)
    say(1, 3)
    got = json.loads(run(rig, [path, str(o.rounds)]))
    size = got['bytes']
    say(2, 3)

    rounds = [{name: {'gbs': size / r[name]} for name in NAMES}
              for r in got['rounds']]
    table = summary(rounds, NAMES, ['gbs'], dict.fromkeys(NAMES, 'sha256'))

    notes = []
    if shutil.which('openssl'):
        said = run(rig, ['openssl', 'speed', '-seconds', '1', '-bytes',
                         str(size), '-evp', 'sha256'])
        found = re.search(r'([\d.]+)k\s*$', said)
        if found:
            speed = float(found.group(1)) / 1e6
            ratio = table['digest']['gbs']['median'] / speed
            notes.append('openssl speed: %.2f GB/s; scan and digest are '
                         '%.2f of it' % (speed, ratio))
    say(3, 3)

    ratio = stats.median(stats.ratios(rounds, 'digest', 'sha256', 'gbs'))
    if ratio < 0.55:
        notes.append('digest: the goal is at least 0.55')
    if table['scan']['gbs']['median'] < 1:
        notes.append('scan: the goal is at least 1 GB/s')

    return {'title': 'The name of an answer: a body of %d KB with three '
                     'images' % (size // 1024),
            'unit': 'GB per second of CPU', 'gate': 'gbs', 'summary': table,
            'notes': notes, 'rounds': rounds}
