//! Draws the trace of a simulated day as SVG: demand and workers above, waiting below.

use std::fmt::Write;

/// A moment of the day.
pub struct Point {
    pub at_s: f64,
    /// In workers that are busy all the time.
    pub demand: f64,
    pub serving: usize,
    /// With those that start or leave.
    pub there: usize,
    /// How long the slowest request waits.
    pub latency_s: f64,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 26.0;
/// Seconds in one column of the picture.
const COLUMN_S: f64 = 90.0;

/// A part of the picture: where it lies, and what its height means.
struct Panel {
    top: f64,
    height: f64,
    max: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value / self.max).clamp(0.0, 1.0))
    }
}

fn x(at_s: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * at_s / 86400.0
}

pub fn draw(points: &[Point], workers_max: u32) -> String {
    let workers = Panel {
        top: 44.0,
        height: 230.0,
        max: 8.0,
    };
    let waiting = Panel {
        top: 330.0,
        height: 110.0,
        max: 6.0,
    };
    // The most of each column, so that no burst falls between two.
    let mut columns: Vec<Point> = Vec::new();
    for point in points {
        let begins_s = (point.at_s / COLUMN_S).floor() * COLUMN_S;
        match columns.last_mut() {
            Some(last) if last.at_s == begins_s => {
                last.demand = last.demand.max(point.demand);
                last.serving = last.serving.max(point.serving);
                last.there = last.there.max(point.there);
                last.latency_s = last.latency_s.max(point.latency_s);
            }
            Some(_) | None => columns.push(Point {
                at_s: begins_s,
                ..*point
            }),
        }
    }
    let line = |panel: &Panel, value: &dyn Fn(&Point) -> f64, steps: bool| {
        let mut path = String::new();
        for column in &columns {
            let (x, y) = (x(column.at_s), panel.y(value(column)));
            let joint = match (path.is_empty(), steps) {
                (true, _) => format!("M{x:.1} {y:.1}"),
                (false, true) => format!("H{x:.1}V{y:.1}"),
                (false, false) => format!("L{x:.1} {y:.1}"),
            };
            path.push_str(&joint);
        }
        path
    };
    let mut text = String::from(concat!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 480" role="img" "#,
        "aria-labelledby=\"title text\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n",
        "<title id=\"title\">A day of traffic and the workers that serve it</title>\n",
        "<desc id=\"text\">Demand rises from a twentieth of a worker at night to more than three in the evening, ",
        "with four bursts; the number of workers follows from 1 to 7 and back to 1.</desc>\n",
        "<style>text{fill:#333}.grid{stroke:#8884}.cap{stroke:#b33;stroke-dasharray:5 4}",
        ".there{fill:#1677bd22;stroke:none}.serving{fill:none;stroke:#1677bd;stroke-width:2}",
        ".demand{fill:none;stroke:#d9730d;stroke-width:1.3}.wait{fill:none;stroke:#6b4fbb;stroke-width:1.3}",
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>\n",
    ));
    for (panel, title) in [
        (&workers, "workers"),
        (&waiting, "seconds that the slowest request waits"),
    ] {
        let _ = writeln!(
            text,
            r#"<text x="{LEFT}" y="{:.0}" font-weight="600">{title}</text>"#,
            panel.top - 10.0
        );
        let mut value = 0.0;
        while value <= panel.max {
            let y = panel.y(value);
            let _ = writeln!(
                text,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{:.0}"/><text x="{:.0}" y="{:.1}" text-anchor="end">{value}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0
            );
            value += 2.0;
        }
    }
    for hour in (0..=24).step_by(3) {
        let x = x(f64::from(hour) * 3600.0);
        let _ = writeln!(
            text,
            r#"<text x="{x:.1}" y="462" text-anchor="middle">{hour}:00</text>"#
        );
    }
    let there = line(&workers, &|p| p.there as f64, true);
    let (floor, end) = (workers.y(0.0), x(86400.0));
    let _ = writeln!(
        text,
        r#"<path class="there" d="{there}H{end:.1}V{floor:.1}H{LEFT}Z"/>"#
    );
    let cap = workers.y(f64::from(workers_max));
    let _ = writeln!(text, r#"<path class="cap" d="M{LEFT} {cap:.1}H{end:.1}"/>"#);
    for (class, path) in [
        ("demand", line(&workers, &|p| p.demand, false)),
        ("serving", line(&workers, &|p| p.serving as f64, true)),
        ("wait", line(&waiting, &|p| p.latency_s, false)),
    ] {
        let _ = writeln!(text, r#"<path class="{class}" d="{path}"/>"#);
    }
    let mut key = 150.0;
    for (class, meaning) in [
        ("serving", "serving"),
        ("demand", "demand, in workers busy all the time"),
        ("cap", "--workers-max"),
    ] {
        let _ = writeln!(
            text,
            r#"<path class="{class}" d="M{key} 30h24"/><text x="{}" y="34">{meaning}</text>"#,
            key + 30.0
        );
        key += 60.0 + 7.0 * meaning.len() as f64;
    }
    text.push_str("</svg>\n");
    text
}
