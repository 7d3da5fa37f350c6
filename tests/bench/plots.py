"""Draws the benchmark's plots as SVG, by hand: no library. They bring their own ground, light or
dark as the reader's system is, so that they can be read on any page."""

import math

STYLE = """
text { fill: #1f2328; font: 12px system-ui, sans-serif }
.title { font-size: 14px; font-weight: 600 } .faint { fill: #59636e } .end { text-anchor: end } .middle { text-anchor: middle }
.ground { fill: #fff } .grid { stroke: #e2e5e9; fill: none }
.f0 { fill: #0969da } .f1 { fill: #bf8700 } .f2 { fill: #1a7f37 } .f3 { fill: #8c959f } .f4 { fill: #8250df } .f5 { fill: #cf222e }
.s0 { stroke: #0969da } .s1 { stroke: #bf8700 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8c959f } .s4 { stroke: #8250df } .s5 { stroke: #cf222e }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .ground { fill: #0d1117 } .grid { stroke: #2f353d }
.f0 { fill: #58a6ff } .f1 { fill: #d29922 } .f2 { fill: #3fb950 } .f3 { fill: #6e7681 } .f4 { fill: #bc8cff } .f5 { fill: #f85149 }
.s0 { stroke: #58a6ff } .s1 { stroke: #d29922 } .s2 { stroke: #3fb950 } .s3 { stroke: #6e7681 } .s4 { stroke: #bc8cff } .s5 { stroke: #f85149 }
}
""".strip()
# The same contestant has the same colour in every plot.
COLOURS = {"sidekeeper": 0, "nginx": 1, "haproxy": 2, "direct": 3, "sidekeeper, handed off": 4, "caddy": 5}
WIDTH = 720


def colour_of(name):
    return COLOURS.get(name, 5)


def escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


class Svg:
    def __init__(self, height, title):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            f"<title>{escaped(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        ]
        self.text(16, 24, title, "title")

    def text(self, x, y, text, kind=""):
        kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:.0f}" y="{y:.0f}"{kind}>{escaped(text)}</text>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect class="f{colour}" x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{height}"/>')

    def line(self, points, kind):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle class="f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')

    def save(self, path):
        path.write_text("\n".join(self.parts + ["</svg>"]) + "\n")


def bars(path, title, groups, form="{:,.1f}"):
    """Horizontal bars; `groups` is {group: {name: value}}."""
    rows = sum(len(values) for values in groups.values())
    svg = Svg(50 + rows * 17 + len(groups) * 26, title)
    most = max(value for values in groups.values() for value in values.values()) or 1
    left, y = 160, 38
    for group, values in groups.items():
        svg.text(16, y + 13, group, "faint")
        y += 20
        for name, value in values.items():
            width = max(1.0, (WIDTH - left - 80) * value / most)
            svg.text(left - 8, y + 11, name, "end")
            svg.box(left, y, width, 13, colour_of(name))
            svg.text(left + 6 + width, y + 11, form.format(value))
            y += 17
        y += 6
    svg.save(path)


def ticks(most):
    step = 10 ** math.floor(math.log10(most)) if most > 0 else 1
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 6)
    return [step * count for count in range(int(most / step) + 1)]


def lines(path, title, what, series):
    """Cost by size on a logarithmic scale; `series` is {name: {size: value}}. Size 0 has a place
    of its own at the left."""
    svg = Svg(330, title)
    left, right, top, bottom = 56, 580, 44, 280
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
        svg.line([(left, up(tick)), (right, up(tick))], "grid")
        svg.text(left - 8, up(tick) + 4, f"{tick:g}", "end faint")
    for size in sizes:
        svg.text(across(size), bottom + 18, f"{size:,}", "middle faint")
    svg.text((left + right) / 2, bottom + 38, what, "middle faint")
    for place, (name, values) in enumerate(series.items()):
        colour = colour_of(name)
        points = [(across(size), up(values[size])) for size in sorted(values)]
        svg.line(points, f"line s{colour}")
        for x, y in points:
            svg.dot(x, y, colour)
        svg.box(right + 24, top + place * 20, 12, 12, colour)
        svg.text(right + 42, top + place * 20 + 11, name)
    svg.save(path)
