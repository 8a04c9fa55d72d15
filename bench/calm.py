"""Whether the processors run at their full speed.

In a virtual machine a processor is often half of one: while its other half is
busy with somebody else's work, everything on it takes half as long again or
more.  That comes and goes within seconds.  A loop that has nothing to do with
what is measured tells it, and a sample waits for it to be over, or is taken
again if it came meanwhile.  A section waits no longer than it may.
"""

import os
import time

LOOP = 20000
TRIES = 5           # of the loop, the quickest of which counts
SLOWER = 1.15       # than the quickest ever: not calm
AGAIN = 3           # times a sample is taken at most


def loop():
    start = time.thread_time_ns()
    for _ in range(LOOP):
        pass
    return time.thread_time_ns() - start


class Calm:
    def __init__(self):
        self.left = 0       # seconds for all waiting and taking again
        self.best = {}

    def now(self, cores):
        mine = os.sched_getaffinity(0)
        calm = True
        try:
            for core in set(cores):
                os.sched_setaffinity(0, {core})
                took = min(loop() for _ in range(TRIES))
                best = min(took, self.best.get(core, took))
                self.best[core] = best
                calm = calm and took <= best * SLOWER
        finally:
            os.sched_setaffinity(0, mine)
        return calm

    def learn(self, cores, seconds=2):
        """How quick they are; a moment of calm is in nearly any two seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.now(cores)
            time.sleep(0.02)

    def wait(self, cores):
        start = time.monotonic()
        while self.left > 0 and not self.now(cores):
            time.sleep(0.02)
            now = time.monotonic()
            self.left -= now - start
            start = now

    def sample(self, cores, take):
        """What take() gives, if possible from beginning to end in calm."""
        for _ in range(AGAIN):
            self.wait(cores)
            start = time.monotonic()
            got = take()
            got['calm'] = self.now(cores)
            if got['calm'] or self.left <= 0:
                break
            self.left -= time.monotonic() - start
        return got
