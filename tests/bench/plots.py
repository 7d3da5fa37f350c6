"""Draws the benchmark's plots as SVG, by hand: no library, light and dark alike."""

import math

COLOURS = ["#1f77b4", "#d9822b", "#3a9d5d", "#b0413e", "#7d5ba6", "#7a7a7a"]
FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


class Svg:
    def __init__(self, width, height, title):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT} role="img">',
            f"<title>{escaped(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            f'<text x="16" y="22" font-size="14" font-weight="600" fill="#222">{escaped(title)}</text>',
        ]

    def text(self, x, y, text, anchor="start", colour="#222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escaped(text)}</text>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def save(self, path):
        path.write_text("\n".join(self.parts + ["</svg>"]) + "\n")


def bars(path, title, groups):
    """Horizontal bars; `groups` is {group: {name: value}}."""
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    colour = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    rows = sum(len(values) for values in groups.values())
    height = 58 + rows * 18 + len(groups) * 26
    svg = Svg(720, height, title)
    most = max(value for values in groups.values() for value in values.values())
    y = 44
    for group, values in groups.items():
        svg.text(16, y + 12, group, colour="#555")
        y += 20
        for name, value in values.items():
            width = 440 * value / most
            svg.text(124, y + 11, name, "end")
            svg.box(132, y, width, 14, colour[name])
            svg.text(138 + width, y + 11, f"{value:,.1f}")
            y += 18
        y += 6
    svg.save(path)


def ticks(most):
    step = 10 ** math.floor(math.log10(most)) if most > 0 else 1
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 6)
    return [step * count for count in range(int(most / step) + 1)]


def lines(path, title, what, series):
    """Cost by size on a logarithmic scale; `series` is {name: {size: value}}. Size 0 has a place
    of its own at the left."""
    svg = Svg(720, 360, title)
    left, right, top, bottom = 64, 560, 44, 310
    sizes = sorted({size for values in series.values() for size in values})
    most = max(value for values in series.values() for value in values.values()) * 1.15
    low = math.log10(max(1, min(size for size in sizes if size > 0)))
    high = math.log10(sizes[-1])
    zero = 0.12 if sizes[0] == 0 else 0.0

    def across(size):
        share = 0.0 if size == 0 else zero + (1 - zero) * (math.log10(size) - low) / max(high - low, 1e-9)
        return left + (right - left) * share

    def up(value):
        return bottom - (bottom - top) * value / most

    for tick in ticks(most):
        svg.line([(left, up(tick)), (right, up(tick))], "#e2e2e2")
        svg.text(left - 8, up(tick) + 4, f"{tick:g}", "end", "#555")
    for size in sizes:
        svg.text(across(size), bottom + 18, f"{size:,}", "middle", "#555")
    svg.text((left + right) / 2, bottom + 40, what, "middle", "#555")
    for place, (name, values) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = [(across(size), up(values[size])) for size in sorted(values)]
        svg.line(points, colour, 2)
        for x, y in points:
            svg.dot(x, y, colour)
        svg.box(right + 24, top + place * 20, 12, 12, colour)
        svg.text(right + 42, top + place * 20 + 11, name)
    svg.text(16, top - 6, "CPU us a request", colour="#555")
    svg.save(path)
