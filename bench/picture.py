"""Bars and dots as SVG, for light pages and dark ones."""

import math
from xml.sax.saxutils import escape

WIDTH, LEFT, ROW, TOP = 760, 270, 30, 64

# times from which on bars are logarithmic
APART = 100

# the picture has its own ground, so that it can be read on any page
STYLE = '''<style>
.ground { fill: #ffffff; stroke: #d1d9e0; }
text { fill: #1f2328; font-family: sans-serif; font-size: 13px; }
.title { font-size: 15px; font-weight: bold; }
.dim { fill: #59636e; }
.small { font-size: 11px; }
.plain { fill: #8c959f; }
.ours { fill: #0969da; }
.span { stroke: #1f2328; stroke-width: 1.5; }
.grid { stroke: #d1d9e0; }
.one { stroke: #59636e; }
.goal { stroke: #9a6700; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; stroke: #3d444d; }
text { fill: #f0f6fc; }
.dim { fill: #9198a1; }
.plain { fill: #656c76; }
.ours { fill: #4493f8; }
.span { stroke: #f0f6fc; }
.grid { stroke: #2a313c; }
.one { stroke: #9198a1; }
.goal { stroke: #d29922; }
}
</style>'''


def page(title, unit, height, parts):
    return '\n'.join([
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
        'viewBox="0 0 %d %d">' % (WIDTH, height, WIDTH, height), STYLE,
        '<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>'
        % (WIDTH - 1, height - 1),
        text(16, 26, title, 'title', room=(84, WIDTH - 32)),
        text(16, 46, unit, 'dim')]
        + parts + ['</svg>', ''])


def text(x, y, said, kind='', anchor='start', room=None):
    """room: from so many characters on it is made to fit into that width."""
    more = ' class="%s"' % kind if kind else ''
    if room and len(said) > room[0]:
        more += ' textLength="%d" lengthAdjust="spacingAndGlyphs"' % room[1]
    return '<text x="%.1f" y="%.1f"%s text-anchor="%s">%s</text>' % (
        x, y, more, anchor, escape(said))


def named(y, label):
    return text(LEFT - 10, y, label, '', 'end', (37, LEFT - 20))


def line(x1, y1, x2, y2, kind):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>' % (
        x1, y1, x2, y2, kind)


def whisker(low, high, y):
    return [line(low, y, high, y, 'span'),
            line(low, y - 4, low, y + 4, 'span'),
            line(high, y - 4, high, y + 4, 'span')]


def colour(label):
    return 'ours' if 'ngx-llm' in label else 'plain'


def number(x):
    if abs(x) >= 100:
        return format(round(x), ',')
    return '%.1f' % x if abs(x) >= 1 or x == 0 else '%.3f' % x


def bars(title, unit, rows):
    """rows: (label, value) or (label, value, interval or None)."""
    rows = [tuple(row) + (None,) * (3 - len(row)) for row in rows]
    room = WIDTH - LEFT - 90
    ends = [value for _, value, _ in rows] \
        + [interval[1] for _, _, interval in rows if interval]
    most = max(ends + [1e-9])
    # what a later control was faster by may be less than nothing
    least = min([0] + [value for _, value, _ in rows]
                + [interval[0] for _, _, interval in rows if interval])

    # else the small ones could not be told apart
    small = min([value for _, value, _ in rows] or [0])
    logarithmic = small > 0 and most / small > APART
    if logarithmic:
        first = math.floor(math.log10(small))
        unit += ' (logarithmic)'

    def at(v):
        if logarithmic:
            share = (math.log10(max(v, 10 ** first)) - first) \
                / (math.log10(most) - first)
        else:
            share = (v - least) / (most - least)
        return LEFT + share * room

    parts = []
    for i, (label, value, interval) in enumerate(rows):
        y = TOP + i * ROW
        low, high = sorted((at(0), at(value)))
        end = high
        parts += [named(y + 15, label),
                  '<rect class="%s" x="%.1f" y="%d" width="%.1f" '
                  'height="20"/>' % (colour(label), low, y,
                                     max(1.0, high - low))]
        if interval:
            parts += whisker(at(interval[0]), at(interval[1]), y + 10)
            end = max(end, at(interval[1]))
        parts.append(text(end + 8, y + 15, number(value)))

    parts.append(line(at(0), TOP - 6, at(0), TOP + len(rows) * ROW - 4,
                      'one'))
    return page(title, unit, TOP + len(rows) * ROW + 12, parts)


def dots(title, unit, rows):
    """rows: (label, ratio, interval or None, goal or None); the line is
    at 1, a goal is a mark of its own."""
    room = WIDTH - LEFT - 80
    every = [0.9, 1.1] + [v for _, ratio, interval, goal in rows
                          for v in [ratio] + list(interval or [])
                          + ([goal] if goal else [])]
    low, high = min(every), max(every)
    low, high = low - (high - low) * 0.04, high + (high - low) * 0.04

    def at(v):
        return LEFT + (v - low) / (high - low) * room

    bottom = TOP + len(rows) * ROW
    parts = []
    step = next((s for s in (0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5)
                 if (high - low) / s <= 9), (high - low) / 5)

    # counted from 1, which is thereby among them
    for i in range(math.ceil((low - 1) / step),
                   math.floor((high - 1) / step) + 1):
        v = 1 + i * step
        parts += [line(at(v), TOP - 8, at(v), bottom, 'one' if i == 0
                       else 'grid'),
                  text(at(v), bottom + 16, '%g' % round(v, 2), 'dim small',
                       'middle')]

    for i, (label, ratio, interval, goal) in enumerate(rows):
        y = TOP + i * ROW + 10
        parts.append(named(y + 5, label))
        if goal:
            parts.append(line(at(goal), y - 9, at(goal), y + 9, 'goal'))
        if interval:
            parts += whisker(at(interval[0]), at(interval[1]), y)
        parts += ['<circle class="%s" cx="%.1f" cy="%.1f" r="5"/>'
                  % ('plain' if 'A/A' in label else 'ours', at(ratio), y),
                  text(WIDTH - 16, y + 5, '%.2f' % ratio, '', 'end')]

    return page(title, unit, bottom + 30, parts)
