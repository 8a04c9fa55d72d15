#!/usr/bin/env python3

"""What a request costs while there are more and more keys, waiting requests,
open streams, gateways and events of a stream; writes docs/scaling/ and the
tables of docs/scaling.md.

SCALE_PARTS  which parts: keys, waiting, streams, length, gateways, known
SCALE_MOST   no point above it (1000000)
SCALE_ROUNDS of what is timed (7)
"""

import os
import signal
import sys
import time

sys.dont_write_bytecode = True

import bed          # noqa: E402
import chart        # noqa: E402
import fleet        # noqa: E402
import many         # noqa: E402

PARTS = {
    'keys': many.keys,
    'waiting': many.waiting,
    'streams': many.streams,
    'length': many.length,
    'gateways': fleet.gateways,
    'known': fleet.known,
}


def interrupted(number, frame):
    raise SystemExit(128 + number)


def main():
    build = os.path.abspath(os.environ.get('BUILD')
                            or os.path.join(bed.TOP, 'build'))
    nginx = os.environ.get('NGINX') or 'nginx'
    out = os.environ.get('SCALE_RESULTS') or os.path.join(bed.TOP, 'docs')
    wanted = (os.environ.get('SCALE_PARTS') or ' '.join(PARTS)).split()
    o = {'most': int(os.environ.get('SCALE_MOST') or 1000000),
         'rounds': int(os.environ.get('SCALE_ROUNDS') or 7)}
    failed = 0

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    for name in wanted:
        if name not in PARTS:
            continue                                # keys.pl has it
        b = bed.Bed(build, nginx)
        start = time.monotonic()
        try:
            got = PARTS[name](b, o)
        except bed.Failure as e:
            print('%s failed: %s' % (name, e), flush=True)
            failed = 1
            continue
        finally:
            b.close()
        got['seconds'] = round(time.monotonic() - start)
        got['machine'] = chart.machine(nginx)
        for path in chart.write(name, got, out):
            print(os.path.relpath(path), flush=True)
        failed |= chart.judge(name, got)
    return failed


if __name__ == '__main__':
    sys.exit(main())
