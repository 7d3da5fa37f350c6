"""Turns rounds into medians, ratios, verdicts on goals, and tables in Markdown."""

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
    "reached": ("reach those who should hear", "{:.0%}", False),
    "relayed": ("relayed", "{:.1%}", True),
    "bytes_each": ("bytes a connection (Pss)", "{:,.0f}", True),
    "threads": ("threads more", "{:.0f}", True),
    "resident_mib": ("resident MiB", "{:.2f}", True),
    "start_ms": ("start to first answer ms", "{:.1f}", True),
    "beside_ms": ("start beside the worker's own ms", "{:.1f}", True),
    "binary_mib": ("static binary MiB", "{:.2f}", True),
    "calls": ("system calls each (strace)", "{:.2f}", True),
    "calls_traced": ("by tracepoint", "{:.2f}", True),
    "which": ("which", "{}", True),
    "instructions": ("user instructions each", "{:,.0f}", True),
    "growth": ("most / least CPU us each", "{:.2f}", True),
    "grown": ("most / least user instructions each", "{:.2f}", True),
    "errors": ("errors", "{:.0f}", True),
}


@dataclass(frozen=True)
class Verdict:
    """What came of a goal. `ours` and `theirs` are medians; `ratio` is that of the rounds."""

    metric: str
    of: str
    ours: float
    theirs: float | None
    peer: str | None
    ratio: float | None
    goal: str
    reached: bool

    @property
    def said(self):
        return "reached" if self.reached else "**not reached**"

    def line(self):
        title, form, _ = COLUMNS[self.metric]
        against = f", {self.peer} {form.format(self.theirs)}" if self.peer else ""
        against += f": {self.ratio:.2f} of it" if self.ratio is not None else ""
        return f"- {title} of {self.of}: {form.format(self.ours)}{against}; goal: {self.goal}: {self.said}"


@dataclass(frozen=True)
class Goal:
    """`metric` of ours is at most (or at least) `bound` times the best of the peers', or, without
    peers, at most `bound` itself. A goal that is not reached may have another one in its place."""

    metric: str
    bound: float
    peers: tuple = ()
    of: str = "sidekeeper"
    otherwise: "Goal | None" = None

    def judged(self, rounds):
        ours = [one[self.metric] for one in rounds.get(self.of, []) if self.metric in one]
        if not ours:
            return None
        verdict = self.beside_peers(rounds, median(ours)) if self.peers else self.alone(median(ours))
        if self.otherwise and not (verdict and verdict.reached):
            return self.otherwise.judged(rounds) or verdict
        return verdict

    def alone(self, ours):
        form = COLUMNS[self.metric][1]
        goal = f"{self.least_or_most()} {form.format(self.bound)}"
        return Verdict(self.metric, self.of, ours, None, None, None, goal, self.well(ours))

    def beside_peers(self, rounds, ours):
        theirs = {peer: middle(rounds[peer], self.metric) for peer in self.peers if rounds.get(peer)}
        if not theirs:
            return None
        best = (min if COLUMNS[self.metric][2] else max)(theirs, key=theirs.get)
        found = ratio(rounds[self.of], rounds[best], self.metric)
        if found is None:
            return None
        goal = f"{self.least_or_most()} {self.bound:.2f} of {'the better' if len(self.peers) > 1 else best}"
        return Verdict(self.metric, self.of, ours, theirs[best], best, found, goal, self.well(found))

    def least_or_most(self):
        return "at most" if COLUMNS[self.metric][2] else "at least"

    def well(self, value):
        return value <= self.bound if COLUMNS[self.metric][2] else value >= self.bound


def middle(rounds, metric):
    values = [one[metric] for one in rounds if metric in one]
    return median(values) if values else float("nan")


def ratio(ours, theirs, metric):
    """The median of the rounds' ratios: what disturbs a round disturbs both sides of it."""
    pairs = [(a[metric], b[metric]) for a, b in zip(ours, theirs) if metric in a and b.get(metric)]
    return median(a / b for a, b in pairs) if pairs else None


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def cell(values, form):
    if not values:
        return ""
    if isinstance(values[0], str):
        return values[0]
    spread = f" ({form.format(min(values))}..{form.format(max(values))})" if len(values) > 1 else ""
    return form.format(median(values)) + spread


def table(scenario, rounds):
    """One scenario's figures, with the ratios of sidekeeper to every other contestant."""
    columns = [c for c in scenario.columns if any(c in one for some in rounds.values() for one in some)]
    ratios = [c for c in scenario.ratios if c in columns]
    head = ["contestant"] + [COLUMNS[c][0] for c in columns]
    head += [f"sidekeeper / it: {COLUMNS[c][0]}" for c in ratios]
    rows = []
    for name, some in rounds.items():
        cells = [cell([one[column] for one in some if column in one], COLUMNS[column][1]) for column in columns]
        found = [ratio(rounds.get("sidekeeper", []), some, column) for column in ratios]
        cells += [f"{one:.2f}" if one is not None and name != "sidekeeper" else "" for one in found]
        rows.append([name, *cells])
    return markdown(head, rows)


def others_line(others):
    worst = max(others)
    return f"Other programs took {median(others):.0%} of the machine (median; worst round {worst:.0%})."


def section(scenario, rounds, others):
    """All that a run says about a scenario."""
    lines = scenario.table(rounds)
    verdicts = scenario.verdicts(rounds)
    if verdicts:
        lines += [verdict.line() for verdict in verdicts] + [""]
    if others:
        lines += [others_line(others), ""]
    return f"### {scenario.name}: {scenario.title}\n\n" + "\n".join(lines)
