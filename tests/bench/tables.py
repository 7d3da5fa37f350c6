"""Turns rounds into medians, ratios, goals and tables in Markdown."""

from dataclasses import dataclass
from statistics import median

# What a figure is called, how it is written, and whether less is better.
COLUMNS = {
    "rate": ("per second", "{:,.0f}", False),
    "mb_s": ("MB/s", "{:,.0f}", False),
    "cpu_us": ("CPU us each", "{:.2f}", True),
    "cpu_gb": ("CPU s a GB", "{:.3f}", True),
    "all_cpu_us": ("CPU us each, workers too", "{:.1f}", True),
    "worker_us": ("worker's CPU us", "{:.2f}", True),
    "p50_ms": ("p50 ms", "{:.2f}", True),
    "p99_ms": ("p99 ms", "{:.2f}", True),
    "p999_ms": ("p99.9 ms", "{:.2f}", True),
    "rate_kept": ("rate with / without", "{:.2f}", False),
    "p99_kept": ("p99 with / without", "{:.2f}", True),
    "bytes_each": ("bytes a connection (Pss)", "{:,.0f}", True),
    "threads": ("threads", "{:.0f}", True),
    "resident_mib": ("resident MiB", "{:.2f}", True),
    "start_ms": ("start to first answer ms", "{:.1f}", True),
    "beside_ms": ("beside the worker's own ms", "{:.1f}", True),
    "binary_mib": ("binary MiB", "{:.2f}", True),
    "calls": ("system calls each (strace)", "{:.2f}", True),
    "calls_traced": ("by tracepoint", "{:.2f}", True),
    "which": ("which", "{}", True),
    "instructions": ("user instructions each", "{:,.0f}", True),
    "errors": ("errors", "{:.0f}", True),
}


@dataclass(frozen=True)
class Goal:
    """`metric` of ours is at most (or at least) `bound` times the best of the peers', or, without
    peers, at most `bound` itself."""

    metric: str
    bound: float
    peers: tuple = ()
    of: str = "sidekeeper"

    def judged(self, rounds):
        ours = [one[self.metric] for one in rounds.get(self.of, []) if self.metric in one]
        title, form, less = COLUMNS[self.metric]
        if not ours:
            return None
        if not self.peers:
            reached = median(ours)
            return self.line(f"{title} of {self.of}", "", reached, form, less)
        theirs = {peer: rounds[peer] for peer in self.peers if rounds.get(peer)}
        if not theirs:
            return None
        best = (min if less else max)(theirs, key=lambda peer: middle(theirs[peer], self.metric))
        reached = ratio(rounds[self.of], theirs[best], self.metric)
        return self.line(f"{title} of {self.of}", f" of {best}'s", reached, "{:.2f}", less)

    def line(self, what, against, reached, form, less):
        if reached is None:
            return None
        well = reached <= self.bound if less else reached >= self.bound
        verdict = "reached" if well else "**not reached**"
        bound = form.format(self.bound)
        return f"- {what}: {form.format(reached)}{against}; goal at {'most' if less else 'least'} {bound}: {verdict}"


def middle(rounds, metric):
    values = [one[metric] for one in rounds if metric in one]
    return median(values) if values else float("nan")


def ratio(ours, theirs, metric):
    """The median of the rounds' ratios: what disturbs a round disturbs both sides of it."""
    pairs = [(a[metric], b[metric]) for a, b in zip(ours, theirs) if metric in a and b.get(metric)]
    return median(a / b for a, b in pairs) if pairs else None


def table(scenario, rounds, others):
    """One scenario's table, with the ratios of sidekeeper to every other contestant."""
    columns = [c for c in scenario.columns if any(c in one for some in rounds.values() for one in some)]
    ratios = [c for c in scenario.ratios if c in columns]
    head = ["contestant"] + [COLUMNS[c][0] for c in columns]
    head += [f"sidekeeper / it: {COLUMNS[c][0]}" for c in ratios]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name, some in rounds.items():
        cells = [name]
        for column in columns:
            values = [one[column] for one in some if column in one]
            form = COLUMNS[column][1]
            if not values:
                cells.append("")
            elif isinstance(values[0], str):
                cells.append(values[0])
            else:
                spread = f" ({form.format(min(values))}..{form.format(max(values))})" if len(values) > 1 else ""
                cells.append(form.format(median(values)) + spread)
        for column in ratios:
            found = ratio(rounds.get("sidekeeper", []), some, column)
            cells.append(f"{found:.2f}" if found is not None and name != "sidekeeper" else "")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    goals = [line for line in (goal.judged(rounds) for goal in scenario.goals) if line]
    if goals:
        lines += goals + [""]
    if others:
        lines.append(f"Other programs took {median(others):.0%} of the machine (median; worst {max(others):.0%}).")
        lines.append("")
    return f"### {scenario.name}: {scenario.title}\n\n" + "\n".join(lines)


def growth_table(title, what, points):
    """Cost by size; `points` is {contestant: {size: rounds}}."""
    sizes = sorted({size for some in points.values() for size in some})
    lines = ["| CPU us a request | " + " | ".join(f"{what} {size:,}" for size in sizes) + " | most / least |",
             "|---|" + "--:|" * (len(sizes) + 1)]
    for name, some in points.items():
        costs = {size: middle(some[size], "cpu_us") for size in sizes if size in some}
        cells = [f"{costs[size]:.2f}" if size in costs else "" for size in sizes]
        spread = max(costs.values()) / min(costs.values())
        lines.append("| " + " | ".join([name] + cells + [f"{spread:.2f}"]) + " |")
    return f"### {title}\n\n" + "\n".join(lines) + "\n"
