//! The PTX with what each line did in its margin.

use crate::{LaunchStats, LineCounters};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The columns of the margin: heading, width, and the value of a line, if it is to be shown.
type Column = (&'static str, usize, fn(&LineCounters) -> Option<String>);

const COLUMNS: [Column; 6] = [
    ("warps", 10, |c| Some(c.warps.to_string())),
    ("lanes", 5, |c| (c.warps > 0).then(|| format!("{:.1}", c.active as f64 / c.warps as f64))),
    ("sectors", 9, |c| some(c.global_sectors)),
    ("asked for", 9, |c| (c.global_sectors > 0).then(|| share(c))),
    ("wavefronts", 10, |c| some(c.shared_wavefronts)),
    ("conflicts", 9, |c| some(c.shared_conflicts)),
];

fn some(count: u64) -> Option<String> {
    (count > 0).then(|| count.to_string())
}

/// The share of its sectors' bytes that an access asked for: 100 % is the best that coalescing can do.
fn share(c: &LineCounters) -> String {
    let asked = (c.global_load_bytes + c.global_store_bytes) as f64;
    format!("{:.0} %", 100.0 * asked / (crate::stats::SECTOR * c.global_sectors) as f64)
}

/// The text of a module with what a launch with counters did in the margin: warp instructions, active lanes of each on average (see [`LineCounters`]),
/// sectors of global memory and the share of their bytes that was asked for, wavefronts and conflicts of shared memory. Lines
/// with several instructions show their sums.
pub fn annotate(text: &str, stats: &LaunchStats) -> String {
    let mut lines: BTreeMap<u32, LineCounters> = BTreeMap::new();
    for counters in &stats.counters {
        let sum = lines.entry(counters.line).or_default();
        sum.warps += counters.warps;
        sum.active += counters.active;
        sum.global_load_bytes += counters.global_load_bytes;
        sum.global_store_bytes += counters.global_store_bytes;
        sum.global_sectors += counters.global_sectors;
        sum.shared_wavefronts += counters.shared_wavefronts;
        sum.shared_conflicts += counters.shared_conflicts;
    }
    let mut out = String::with_capacity(2 * text.len());
    let mut row = |cell: &dyn Fn(&Column) -> String, line: &str| {
        for column in &COLUMNS {
            // Writing to a string cannot fail.
            let _ = write!(out, "{:>width$} ", cell(column), width = column.1);
        }
        let _ = writeln!(out, "| {line}");
    };
    row(&|column| column.0.into(), "PTX");
    for (number, line) in (1..).zip(text.lines()) {
        let counters = lines.get(&number);
        row(&|column| counters.and_then(column.2).unwrap_or_default(), line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_beside_their_line() {
        let line = |line, warps, active, sectors| LineCounters {
            line,
            warps,
            active,
            global_load_bytes: 16 * sectors,
            global_sectors: sectors,
            ..LineCounters::default()
        };
        let stats = LaunchStats {
            counters: vec![line(2, 4, 128, 8), line(2, 4, 64, 0), line(3, 1, 32, 0)],
            ..LaunchStats::default()
        };
        let text = annotate("one\ntwo\nthree", &stats);
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["|", "one"]);
        assert_eq!(rows[2], ["8", "24.0", "8", "50", "%", "|", "two"]);
        assert_eq!(rows[3], ["1", "32.0", "|", "three"]);
        let bars: Vec<Option<usize>> = text.lines().map(|l| l.find('|')).collect();
        assert!(bars.iter().all(|bar| *bar == bars[0]), "{text}");
    }
}
