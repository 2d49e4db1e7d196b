//! What a preset found out: tables to read, rows for machines, panels for the picture.

use comfy_table::Table;
use serde::Serialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::plot::Panel;

/// The result of a preset.
#[derive(Debug)]
pub struct Report {
    /// Its preset.
    pub preset: &'static str,
    /// Under which conditions.
    pub environment: Environment,
    /// Every measurement.
    pub results: Value,
    /// The same, to read.
    pub tables: Vec<Table>,
    /// What the numbers do not say themselves.
    pub notes: Vec<String>,
    /// The same as a picture.
    pub panels: Vec<Panel>,
    /// What could not be measured.
    pub failures: Vec<String>,
}

/// The file that `--json` writes.
#[derive(Serialize)]
struct File<'a> {
    preset: &'a str,
    #[serde(flatten)]
    environment: &'a Environment,
    notes: &'a [String],
    results: &'a Value,
}

impl Report {
    /// What was measured, where and when, in one line.
    pub fn heading(&self) -> String {
        let Environment { device, description, driver, cpu, date, version, .. } = &self.environment;
        let driver = driver.as_ref().filter(|_| device.starts_with("cuda"));
        let cpu = cpu.as_ref().filter(|_| !device.starts_with("cuda"));
        let mut heading = format!("{} {version}: {device}, {description}", self.preset);
        heading.extend(driver.map(|driver| format!(", driver {driver}")));
        heading.extend(cpu.map(|cpu| format!(", {cpu}")));
        format!("{heading}, {date}")
    }

    /// What the command prints.
    pub fn text(&self) -> String {
        let mut parts = vec![self.heading()];
        parts.extend(self.tables.iter().filter(|table| table.row_count() > 0).map(Table::to_string));
        parts.extend(self.notes.iter().cloned());
        parts.join("\n")
    }

    /// Why it is not a result, in one sentence, where something could not be measured.
    pub fn failure(&self) -> Option<String> {
        match &self.failures[..] {
            [] => None,
            [one] => Some(one.clone()),
            [first, others @ ..] => Some(format!("{first} (and {} more)", others.len())),
        }
    }

    /// What `--json` writes.
    ///
    /// # Errors
    /// Where a number has no place in JSON.
    pub fn json(&self) -> Result<String, String> {
        let Report { preset, environment, notes, results, .. } = self;
        serde_json::to_string_pretty(&File { preset, environment, notes, results })
            .map(|text| text + "\n")
            .map_err(|error| format!("the results cannot be written as JSON: {error}"))
    }
}

/// A number in three or four digits: `1.23`, `12.3`, `123`, `1234`.
pub fn short(number: f64) -> String {
    let digits = match number.abs() {
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}")
}

/// A count with a prefix: `950`, `1.20 k`, `33.5 M`, `2.10 G`.
pub fn scaled(count: f64) -> String {
    [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(unit, _)| count >= *unit)
        .map_or_else(|| format!("{count:.0}"), |(unit, prefix)| format!("{} {prefix}", short(count / unit)))
}

/// Bytes in binary units: `512 B`, `1.50 KiB`, `12.0 MiB`.
pub fn bytes(count: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| count >= 1 << shift).map_or_else(
        || format!("{count} B"),
        |(shift, unit)| format!("{} {unit}", short(count as f64 / f64::from(1 << shift))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([1.234, 9.996, 12.34, 99.96, 1234.5].map(short), ["1.23", "10.0", "12.3", "100", "1234"]);
        assert_eq!([950.0, 1200.0, 33.5e6, 2.1e9].map(scaled), ["950", "1.20 k", "33.5 M", "2.10 G"]);
        assert_eq!([512, 1536, 12 << 20].map(bytes), ["512 B", "1.50 KiB", "12.0 MiB"]);
    }
}
