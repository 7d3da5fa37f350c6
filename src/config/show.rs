//! The plan as `sidekeeper check` prints it: one app a line, in columns. Pure.

use super::launch;
use super::placement;
use super::plan::Plan;
use crate::fleet::spec::AppSpec;
use std::path::Path;

/// What would run, what is left out and what is worth a second look.
pub fn plan(plan: &Plan, working_dir: &Path) -> String {
    let mut rows = vec![["APP", "ROUTE", "WORKERS", "COMMAND", "DIRECTORY"].map(str::to_owned)];
    rows.extend(plan.apps.iter().map(|app| {
        let dir = app.dir.strip_prefix(working_dir).unwrap_or(&app.dir);
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        [
            app.name.clone(),
            placement::shown(&app.routes),
            workers(app),
            launch::shown(&app.launch),
            dir.display().to_string(),
        ]
    }));
    let mut text = columns(&rows);
    let listen: Vec<String> = plan.server.listen.iter().map(ToString::to_string).collect();
    text.push_str(&format!(
        "\nlistens on {}, {} pool threads\n",
        listen.join(", "),
        plan.server.threads
    ));
    for left in &plan.left_out {
        text.push_str(&format!("left out: {}: {}\n", left.name, left.reason));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// `4`, or `1-4` if the number follows the load.
pub fn workers(app: &AppSpec) -> String {
    match (app.scale.min, app.scale.max) {
        (min, max) if min == max => max.to_string(),
        (min, max) => format!("{min}-{max}"),
    }
}

/// Rows whose columns are as wide as their widest cell; the last one is not padded.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb", "c"], ["aaa", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "a    bb  c\naaa  b\n");
    }
}
