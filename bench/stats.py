"""Medians, and what can be said about them after a few noisy rounds."""

import random
import statistics

RESAMPLES = 2000

# the two plain instances are the same: what differs between them is noise,
# and with more noise than this a run proves nothing
WIDEST = 0.05


def median(values):
    return statistics.median(values) if values else None


def middle(samples):
    """One sample with the median of each figure that all of them have."""
    return {key: median([s[key] for s in samples]) for key in samples[0]
            if all(key in s for s in samples)}


def interval(values, seed=1):
    """The bootstrap 95 % interval of the median."""
    if len(values) < 3:
        return None

    rnd = random.Random(seed)
    n = len(values)
    low, high = (n - 1) // 2, n // 2
    medians = []
    for _ in range(RESAMPLES):
        drawn = sorted(rnd.choices(values, k=n))
        medians.append((drawn[low] + drawn[high]) / 2)
    medians.sort()
    return [medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]]


def ratios(rounds, name, base, metric):
    """One ratio per round: what disturbed a round disturbed both of them."""
    return [r[name][metric] / r[base][metric] for r in rounds
            if r.get(name) and r.get(base)
            and r[name].get(metric) is not None and r[base].get(metric)]


def differences(rounds, name, base, metric):
    return [r[name][metric] - r[base][metric] for r in rounds
            if r.get(name) and r.get(base)
            and r[name].get(metric) is not None
            and r[base].get(metric) is not None]


def verdict(aa, width=WIDEST):
    """Whether the control allows to believe the other ratios."""
    if aa is None:
        return 'invalid: fewer than 3 rounds'

    low, high = aa
    why = []

    if low > 1 or high < 1:
        why.append('excludes 1')
    if (high - low) / 2 > width:
        why.append('is wider than ±%g %%' % (width * 100))

    if why:
        return 'invalid: A/A interval ' + ' and '.join(why)
    return 'valid'
