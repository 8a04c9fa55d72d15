"""Bars and dots as SVG."""

import math
from xml.sax.saxutils import escape

WIDTH, LEFT, ROW, TOP = 760, 230, 30, 64
COLOURS = {'plain': '#8a94a0', 'ours': '#1f6feb', 'line': '#d0d7de'}


def page(title, unit, height, parts):
    head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
            'viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">'
            % (WIDTH, height, WIDTH, height))
    return '\n'.join([
        head, '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="15" font-weight="bold">%s</text>'
        % escape(title),
        '<text x="16" y="44" fill="#57606a">%s</text>' % escape(unit)]
        + parts + ['</svg>', ''])


def colour(label):
    return COLOURS['ours' if 'ngx-llm' in label else 'plain']


def number(x):
    return '%d' % round(x) if abs(x) >= 100 else '%.1f' % x


def bars(title, unit, rows):
    """rows: (label, value)."""
    room = WIDTH - LEFT - 90
    most = max([value for _, value in rows] + [1e-9])
    parts = []

    for i, (label, value) in enumerate(rows):
        y = TOP + i * ROW
        wide = max(1.0, value / most * room)
        parts += [
            '<text x="%d" y="%d" text-anchor="end">%s</text>'
            % (LEFT - 10, y + 15, escape(label)),
            '<rect x="%d" y="%d" width="%.1f" height="20" fill="%s"/>'
            % (LEFT, y, wide, colour(label)),
            '<text x="%.1f" y="%d">%s</text>'
            % (LEFT + wide + 6, y + 15, number(value))]

    return page(title, unit, TOP + len(rows) * ROW + 12, parts)


def dots(title, unit, rows):
    """rows: (label, ratios, interval or None); the line is at 1."""
    room = WIDTH - LEFT - 40
    every = [v for _, values, _ in rows for v in values] + [0.95, 1.05]
    low, high = min(every), max(every)
    low, high = low - (high - low) * 0.05, high + (high - low) * 0.05

    def at(v):
        return LEFT + (v - low) / (high - low) * room

    bottom = TOP + len(rows) * ROW
    parts = []
    step = next((s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
                 if (high - low) / s <= 8), (high - low) / 5)

    # counted from 1, which is thereby among them
    for i in range(math.ceil((low - 1) / step),
                   math.floor((high - 1) / step) + 1):
        v = 1 + i * step
        parts += [
            '<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>'
            % (at(v), TOP - 8, at(v), bottom, COLOURS['line']),
            '<text x="%.1f" y="%d" text-anchor="middle" fill="#57606a" '
            'font-size="11">%.2f</text>' % (at(v), bottom + 16, v)]
    parts.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" '
                 'stroke="#24292f"/>' % (at(1), TOP - 8, at(1), bottom))

    for i, (label, values, interval) in enumerate(rows):
        y = TOP + i * ROW + 10
        parts.append('<text x="%d" y="%d" text-anchor="end">%s</text>'
                     % (LEFT - 10, y + 5, escape(label)))
        if interval:
            parts.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" '
                         'stroke="%s" stroke-width="6" '
                         'stroke-opacity="0.4"/>'
                         % (at(interval[0]), y, at(interval[1]), y,
                            colour(label)))
        parts += ['<circle cx="%.1f" cy="%d" r="3.5" fill="%s" '
                  'fill-opacity="0.6"/>' % (at(v), y, colour(label))
                  for v in values]

    return page(title, unit, bottom + 28, parts)
