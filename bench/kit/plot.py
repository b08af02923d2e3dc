"""SVG plots, written by hand: bars for one cell, lines for growth. Readable on light and dark ground."""

import math
from xml.sax.saxutils import escape

COLOURS = ["#0b6e4f", "#c1440e", "#2b59c3", "#8e44ad", "#b8860b", "#5d6d7e", "#d6336c", "#17a2b8", "#6c757d"]
FONT = 'font-family="system-ui, sans-serif" font-size="13" fill="#555"'


def bars(path, title, rows):
    """Horizontal bars; the first row, longhaul, stands out."""
    left, width, step = 190, 460, 26
    top = 40
    height = top + step * len(rows) + 10
    most = max(v for _, v in rows)
    out = [begin(left + width + 90, height, title)]
    for i, (name, value) in enumerate(rows):
        y = top + i * step
        colour = COLOURS[0] if name.startswith("longhaul") else "#9aa5b1"
        out.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" {FONT}>{escape(name)}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{width * value / most:.1f}" height="18" rx="2" fill="{colour}"/>')
        out.append(f'<text x="{left + width * value / most + 6:.1f}" y="{y + 14}" {FONT}>{figure(value)}</text>')
    finish(path, out)


def lines(path, title, by, counts, series):
    """Lines over counts on a logarithmic axis, from zero upward."""
    left, top, width, height = 70, 50, 560, 280
    values = [v for line in series.values() for v in line if v is not None]
    most = nice(max(values))
    span = math.log(counts[-1] / counts[0]) or 1
    out = [begin(left + width + 190, top + height + 50, title)]
    for i in range(5):
        y = top + height - height * i / 4
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#ccc" stroke-width="0.6"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" {FONT}>{figure(most * i / 4)}</text>')
    place = [left + width * math.log(c / counts[0]) / span for c in counts]
    for x, count in zip(place, counts):
        out.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle" {FONT}>{count:,}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 40}" text-anchor="middle" {FONT}>{escape(by)}</text>')
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = [(x, top + height - height * v / most) for x, v in zip(place, line) if v is not None]
        out.append('<polyline fill="none" stroke-width="2" stroke="%s" points="%s"/>'
                   % (colour, " ".join(f"{x:.1f},{y:.1f}" for x, y in points)))
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = top + 14 + 20 * i
        out.append(f'<rect x="{left + width + 20}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{left + width + 38}" y="{y}" {FONT}>{escape(name)}</text>')
    finish(path, out)


def begin(width, height, title):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>'
            f'<text x="10" y="22" {FONT} font-weight="bold">{escape(title)}</text>')


def figure(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def nice(value):
    step = 10 ** math.floor(math.log10(value))
    return next(step * f for f in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if step * f >= value)


def finish(path, out):
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>"]) + "\n")
