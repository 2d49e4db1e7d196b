//! The figures that may only improve.

use super::Assembled;
use crate::command;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The file, from the root of the workspace.
pub const FILE: &str = "xtask/ptxas.ratchet.json";

/// What may only improve, smaller being better, in the order of the file.
const NAMES: [&str; 4] =
    ["registers", "spilled bytes", "bytes of stack", "instructions other than HMMA for each HMMA"];

/// The figures of one kernel on one target: registers, spilled bytes, bytes of stack, and for kernels with a loop on tensor cores
/// its instructions other than HMMA for each HMMA, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures([Option<u32>; 4]);

/// Figures by kernel and target.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ratchet {
    /// The version of the assembler that they were counted with.
    pub assembler: String,
    figures: BTreeMap<(String, String), Figures>,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// A sentence for each figure that is worse, and for each kernel that only one side has.
    pub worse: Vec<String>,
    /// How many figures are better.
    pub better: usize,
}

fn path() -> PathBuf {
    command::root().join(FILE)
}

impl Ratchet {
    /// The figures of what was assembled.
    pub(super) fn of(assembler: &str, assembled: &[Assembled<'_>]) -> Self {
        let figures = assembled.iter().map(|one| {
            let others = one.plain_loop.as_ref().map(|found| found.others());
            let usage = &one.usage;
            let figures = Figures([Some(usage.registers), Some(usage.spilled), Some(usage.stack), others]);
            ((one.module.name.to_string(), one.target.name.to_string()), figures)
        });
        Self { assembler: assembler.into(), figures: figures.collect() }
    }

    /// What the file holds; nothing if there is none.
    pub fn read() -> Result<Self> {
        if !path().exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path()).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text).with_context(|| format!("{FILE} is not as `cargo xtask ptxas --accept` writes it"))
    }

    /// Instructions other than HMMA for each HMMA in the plain loop of a kernel on a target, if it has such a loop.
    pub fn others_for_each_product(&self, kernel: &str, target: &str) -> Option<f64> {
        let Figures([.., others]) = self.figures.get(&(kernel.to_string(), target.to_string()))?;
        others.map(|hundredths| f64::from(hundredths) / 100.0)
    }

    /// As `read`, of a text.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        let assembler = file["ptxas"].as_str().context("lacks `ptxas`")?.to_string();
        let mut figures = BTreeMap::new();
        for (kernel, targets) in file["kernels"].as_object().context("lacks `kernels`")? {
            for (target, list) in targets.as_object().with_context(|| format!("`{kernel}` has no targets"))? {
                let list = list.as_array().filter(|list| (3..=4).contains(&list.len()));
                let number = |index: usize| list?.get(index)?.as_f64();
                let wrong = || format!("`{kernel}` on {target} lacks figures");
                let registers = number(0).with_context(wrong)? as u32;
                let spilled = number(1).with_context(wrong)? as u32;
                let stack = number(2).with_context(wrong)? as u32;
                let others = number(3).map(|ratio| (ratio * 100.0).round() as u32);
                let all = Figures([Some(registers), Some(spilled), Some(stack), others]);
                figures.insert((kernel.clone(), target.clone()), all);
            }
        }
        Ok(Self { assembler, figures })
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        std::fs::write(path(), self.text()).with_context(|| format!("cannot write {FILE}"))
    }

    /// A line for each kernel, so that a change shows as one.
    fn text(&self) -> String {
        let mut kernels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((kernel, target), Figures(figures)) in &self.figures {
            let [registers, spilled, stack, others] = figures.map(Option::unwrap_or_default);
            let others = if figures[3].is_some() { format!(", {}", ratio(others)) } else { String::new() };
            kernels
                .entry(kernel)
                .or_default()
                .push(format!("\"{target}\": [{registers}, {spilled}, {stack}{others}]"));
        }
        let lines: Vec<String> = kernels
            .iter()
            .map(|(kernel, targets)| format!("    \"{kernel}\": {{ {} }}", targets.join(", ")))
            .collect();
        let names = NAMES.map(|name| format!("\"{name}\"")).join(", ");
        format!(
            "{{\n  \"ptxas\": \"{}\",\n  \"figures\": [{names}],\n  \"kernels\": {{\n{}\n  }}\n}}\n",
            self.assembler,
            lines.join(",\n")
        )
    }

    /// These figures, with those of the kernels that were counted now in place of their own. An error where they were counted with
    /// another version of the assembler.
    pub fn with(mut self, now: Ratchet) -> Result<Self> {
        if self.assembler != now.assembler {
            bail!(
                "{FILE} was counted with version {}, this is {}: accept all kernels",
                self.assembler,
                now.assembler
            );
        }
        self.figures.extend(now.figures);
        Ok(self)
    }

    /// Compares what was counted now with these figures. Ratios that were `not_counted` are passed over.
    pub fn compare(&self, now: &Ratchet, not_counted: bool) -> Comparison {
        let mut found = Comparison::default();
        for ((kernel, target), Figures(counted)) in &now.figures {
            let Some(Figures(before)) = self.figures.get(&(kernel.clone(), target.clone())) else {
                found.worse.push(format!("{kernel} on {target} is not in {FILE}"));
                continue;
            };
            for (i, name) in NAMES.iter().enumerate() {
                let show = |value: u32| if i == 3 { ratio(value) } else { value.to_string() };
                match (before[i], counted[i]) {
                    (Some(was), Some(is)) if is > was => {
                        found.worse.push(format!(
                            "{kernel} on {target}: {} {name}, {} before",
                            show(is),
                            show(was)
                        ));
                    }
                    (Some(was), Some(is)) => found.better += usize::from(is < was),
                    (None, None) => {}
                    _ if not_counted => {}
                    _ => found.worse.push(format!("{kernel} on {target}: `{name}` is new or gone")),
                }
            }
        }
        let gone = self.figures.keys().filter(|key| !now.figures.contains_key(*key));
        found.worse.extend(gone.map(|(kernel, target)| {
            format!("{kernel} on {target} is in {FILE}, and there is no such kernel")
        }));
        found
    }
}

/// Hundredths as a decimal number.
pub fn ratio(hundredths: u32) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratchet(figures: &[(&str, &str, [Option<u32>; 4])]) -> Ratchet {
        let figures = figures.iter().map(|&(k, t, list)| ((k.to_string(), t.to_string()), Figures(list)));
        Ratchet { assembler: "13.0".into(), figures: figures.collect() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = ratchet(&[
            ("delta_f32", "sm_75", [Some(55), Some(0), Some(0), None]),
            ("flash", "sm_120", [Some(250), Some(8), Some(16), Some(205)]),
            ("flash", "sm_80", [Some(255), Some(64), Some(72), Some(1349)]),
        ]);
        let text = written.text();
        assert!(
            text.contains(
                "    \"flash\": { \"sm_120\": [250, 8, 16, 2.05], \"sm_80\": [255, 64, 72, 13.49] }\n"
            ),
            "{text}"
        );
        assert_eq!(Ratchet::parse(&text).unwrap(), written);
    }

    #[test]
    fn a_file_without_its_figures_is_an_error() {
        let file = |list: &str| format!(r#"{{"ptxas": "13", "kernels": {{"k": {{"sm_80": {list}}}}}}}"#);
        assert!(Ratchet::parse(&file("[1, 2, 3]")).is_ok());
        for wrong in ["[1, 2]", "[1, 2, 3, 4, 5]", "[1, \"2\", 3]", "[1, 2, \"3\"]", "3"] {
            assert!(Ratchet::parse(&file(wrong)).is_err(), "{wrong}");
        }
        assert!(Ratchet::parse("{}").is_err());
    }

    #[test]
    fn each_figure_that_is_worse_is_named_and_better_ones_are_counted() {
        let before = ratchet(&[("a", "sm_80", [Some(200), Some(8), Some(16), Some(249)])]);
        assert_eq!(before.compare(&before, false), Comparison::default());
        let now = ratchet(&[("a", "sm_80", [Some(199), Some(12), Some(24), Some(250)])]);
        let found = before.compare(&now, false);
        assert_eq!(found.better, 1);
        assert_eq!(
            found.worse,
            [
                "a on sm_80: 12 spilled bytes, 8 before",
                "a on sm_80: 24 bytes of stack, 16 before",
                "a on sm_80: 2.50 instructions other than HMMA for each HMMA, 2.49 before"
            ]
        );
    }

    #[test]
    fn a_kernel_or_a_ratio_that_only_one_side_has_is_named() {
        let none = [Some(1), Some(0), Some(0), None];
        let with = ratchet(&[("a", "sm_80", [Some(1), Some(0), Some(0), Some(5)]), ("b", "sm_80", none)]);
        let less = ratchet(&[("a", "sm_80", none)]);
        assert_eq!(with.compare(&less, false).worse.len(), 2);
        assert_eq!(less.compare(&with, false).worse.len(), 2);
        // Without a disassembler there is no ratio, and its absence says nothing.
        assert_eq!(with.compare(&less, true).worse.len(), 1);
    }

    #[test]
    fn kernels_that_were_counted_take_the_place_of_their_figures_alone() {
        let figures = |registers| [Some(registers), Some(0), Some(0), None];
        let before = || ratchet(&[("a", "sm_80", figures(1)), ("b", "sm_80", figures(2))]);
        let now = || ratchet(&[("b", "sm_80", figures(3)), ("c", "sm_80", figures(4))]);
        let all = [("a", "sm_80", figures(1)), ("b", "sm_80", figures(3)), ("c", "sm_80", figures(4))];
        assert_eq!(before().with(now()).unwrap(), ratchet(&all));
        let other = Ratchet { assembler: "12.9".into(), ..now() };
        assert!(before().with(other).unwrap_err().to_string().contains("version 13.0, this is 12.9"));
    }
}
