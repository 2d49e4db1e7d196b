//! What the kernels were counted to ask, and the file that holds it.

use anyhow::{Context, Result};
use ptx_emulator::profile::{Demand, MatrixKind};
use serde_json::Value;
use std::collections::BTreeMap;

/// What follows from the problem alone, and may not change.
const GIVEN: [&str; 5] = ["head_dim", "causal", "scores", "flops", "least_bytes"];

/// What may only improve, smaller being better. Those of `instructions` are of warps.
const COUNTED: [&str; 16] = [
    "warp_instructions",
    "f32_instructions",
    "integer_instructions",
    "special_instructions",
    "product_instructions",
    "thread_instructions",
    "global_bytes",
    "sector_bytes",
    "shared_bytes",
    "shared_wavefronts",
    "shared_conflicts",
    "local_bytes",
    "matrix_flops",
    "ex2_operations",
    "special_operations",
    "barriers",
];

/// The figures of one kernel on one problem, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures(BTreeMap<String, u64>);

impl Figures {
    /// A figure; 0 where there is none of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What it asks of a GPU. `instructions` are those that an assembler made, where that is known.
    pub fn demand(&self, instructions: Option<f64>) -> Demand {
        // A kind without operations is no kind that the kernel has.
        let products = Some(self.get("matrix_flops")).filter(|&flops| flops > 0);
        Demand {
            instructions: instructions.unwrap_or(self.get("warp_instructions") as f64),
            float: self.get("f32_instructions"),
            integer: self.get("integer_instructions"),
            special: self.get("special_instructions"),
            mma: products.map(|flops| (MatrixKind::HalfInF32, flops)).into_iter().collect(),
            shared_wavefronts: self.get("shared_wavefronts"),
            sector_bytes: self.get("sector_bytes"),
            least_bytes: Some(self.get("least_bytes")),
            flops: self.get("flops") as f64,
            ..Demand::default()
        }
    }
}

/// A kernel on a problem: its name, its role, and the problem in a few characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its entry point.
    pub kernel: String,
    /// What it computes, as `bench` calls it.
    pub role: String,
    /// Batch, heads and length.
    pub problem: String,
}

/// Figures by kernel and problem.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the order of the file.
    pub all: Vec<(Key, Figures)>,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// A sentence for each count that is worse, and for each kernel that only one side has.
    pub worse: Vec<String>,
    /// How many counts are better.
    pub better: usize,
}

fn number(value: &Value, name: &str) -> Result<u64> {
    let number = value[name].as_u64().or(value[name].as_bool().map(u64::from));
    number.with_context(|| format!("`{name}` is not a count"))
}

fn text(value: &Value, name: &str) -> Result<String> {
    Ok(value[name].as_str().with_context(|| format!("`{name}` is not a text"))?.to_string())
}

impl Counts {
    /// What `bench model --json` wrote.
    pub fn measured(json: &str) -> Result<Counts> {
        let file: Value = serde_json::from_str(json)?;
        let mut all = Vec::new();
        for row in file["results"].as_array().context("`results` is not a list")? {
            let problem = ["batch", "heads", "queries", "head_dim"].map(|name| number(row, name));
            let problem = problem.into_iter().collect::<Result<Vec<u64>>>()?;
            let problem = problem.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
            let causal = text(row, "causal")? != "none";
            let key = Key {
                kernel: text(row, "kernel")?,
                role: text(row, "role")?,
                problem: if causal { format!("{problem}, causal") } else { problem },
            };
            let mnemonics = row["mnemonics"].as_object().context("`mnemonics` is not an object")?;
            let mnemonics = mnemonics.iter().map(|(name, n)| (name.as_str(), n.as_u64().unwrap_or(0)));
            let is_product = |&(name, _): &(&str, u64)| name.starts_with("mma.");
            let products = mnemonics.clone().filter(is_product).map(|(_, warps)| warps).sum();
            let asked = Demand::of(mnemonics);
            let mut figures = Figures::default();
            for name in GIVEN.iter().chain(&COUNTED) {
                let value = match *name {
                    "causal" => u64::from(causal),
                    "f32_instructions" => asked.float,
                    "integer_instructions" => asked.integer,
                    "special_instructions" => asked.special,
                    "product_instructions" => products,
                    "sector_bytes" => 32 * number(row, "global_sectors")?,
                    name => number(row, name)?,
                };
                figures.0.insert(name.to_string(), value);
            }
            all.push((key, figures));
        }
        Ok(Counts { all })
    }

    /// What the ratchet file holds.
    pub fn parse(json: &str) -> Result<Counts> {
        let file: Value = serde_json::from_str(json)?;
        let mut all = Vec::new();
        for row in file["kernels"].as_array().context("`kernels` is not a list")? {
            let key = Key {
                kernel: text(row, "kernel")?,
                role: text(row, "role")?,
                problem: text(row, "problem")?,
            };
            let named = GIVEN.iter().chain(&COUNTED).map(|name| Ok((name.to_string(), number(row, name)?)));
            let figures = named.collect::<Result<_>>().with_context(|| format!("`{}`", key.kernel))?;
            all.push((key, Figures(figures)));
        }
        Ok(Counts { all })
    }

    /// The file: a line for each kernel, so that a change shows as one.
    pub fn text(&self) -> String {
        let line = |(key, figures): &(Key, Figures)| {
            let Key { kernel, role, problem } = key;
            let named = GIVEN.iter().chain(&COUNTED).map(|name| format!("\"{name}\": {}", figures.get(name)));
            let named = named.collect::<Vec<_>>().join(", ");
            format!(
                "    {{ \"kernel\": \"{kernel}\", \"role\": \"{role}\", \"problem\": \"{problem}\", {named} }}"
            )
        };
        let lines: Vec<String> = self.all.iter().map(line).collect();
        format!("{{\n  \"command\": \"bench model\",\n  \"kernels\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
    }

    /// Kernels on problems.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn figures(&self, key: &Key) -> Option<&Figures> {
        self.all.iter().find(|(known, _)| known == key).map(|(_, figures)| figures)
    }

    /// Compares what was counted now with these figures.
    pub fn compare(&self, now: &Counts) -> Comparison {
        let mut found = Comparison::default();
        for (key, counted) in &now.all {
            let name = format!("{} at {}", key.kernel, key.problem);
            let Some(before) = self.figures(key) else {
                found.worse.push(format!("{name} is not in {}", super::FILE));
                continue;
            };
            for figure in GIVEN {
                if before.get(figure) != counted.get(figure) {
                    let (was, is) = (before.get(figure), counted.get(figure));
                    found.worse.push(format!("{name}: `{figure}` is {is}, {was} before"));
                }
            }
            for figure in COUNTED {
                let (was, is) = (before.get(figure), counted.get(figure));
                if is > was {
                    found.worse.push(format!("{name}: {is} {figure}, {was} before"));
                }
                found.better += usize::from(is < was);
            }
        }
        for (key, _) in self.all.iter().filter(|(key, _)| now.figures(key).is_none()) {
            let gone = format!("{} at {} is in {}, and does not run", key.kernel, key.problem, super::FILE);
            found.worse.push(gone);
        }
        found
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What `bench model` writes of one kernel.
    pub const MEASURED: &str = r#"{ "results": [ {
        "batch": 1, "heads": 2, "queries": 64, "head_dim": 64, "causal": "upper-left", "kernel": "flash_forward_f16_d64",
        "role": "forward", "scores": 10, "flops": 2560, "least_bytes": 100, "warp_instructions": 16, "thread_instructions": 512,
        "global_bytes": 200, "global_sectors": 8, "shared_bytes": 64, "shared_wavefronts": 4, "shared_conflicts": 0,
        "local_bytes": 0, "matrix_flops": 8192, "ex2_operations": 32, "special_operations": 0, "barriers": 1,
        "mnemonics": { "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32": 2, "ex2.approx.ftz.f32": 1, "fma.rn.f32": 5, "add.s32": 3 } } ] }"#;

    fn changed(name: &str, value: u64) -> Counts {
        let mut counts = Counts::measured(MEASURED).unwrap();
        counts.all[0].1.0.insert(name.into(), value);
        counts
    }

    #[test]
    fn what_was_measured_is_written_and_read_back() {
        let counts = Counts::measured(MEASURED).unwrap();
        let (key, figures) = &counts.all[0];
        assert_eq!(key.problem, "1 x 2 x 64 x 64, causal");
        let named = [
            "f32_instructions",
            "integer_instructions",
            "special_instructions",
            "product_instructions",
            "sector_bytes",
            "causal",
        ];
        assert_eq!(named.map(|name| figures.get(name)), [5, 3, 1, 2, 256, 1]);
        assert_eq!(Counts::parse(&counts.text()).unwrap(), counts);
        assert!(Counts::parse(&counts.text().replace("\"barriers\"", "\"others\"")).is_err());
    }

    #[test]
    fn the_demand_is_that_of_the_figures() {
        let counts = Counts::measured(MEASURED).unwrap();
        let demand = counts.all[0].1.demand(Some(99.0));
        assert_eq!((demand.instructions, demand.flops, demand.matrix_flops()), (99.0, 2560.0, 8192));
        assert_eq!((demand.memory_bytes(), demand.sector_bytes), (100, 256));
        assert_eq!((demand.float, demand.integer, demand.special), (5, 3, 1));
        assert!(changed("matrix_flops", 0).all[0].1.demand(None).mma.is_empty());
        assert_eq!(counts.all[0].1.demand(None).instructions, 16.0);
    }

    #[test]
    fn each_count_that_is_worse_is_named_and_better_ones_are_counted() {
        let before = Counts::measured(MEASURED).unwrap();
        assert_eq!(before.compare(&Counts::measured(MEASURED).unwrap()), Comparison::default());
        let worse = before.compare(&changed("shared_conflicts", 3)).worse;
        assert_eq!(worse, ["flash_forward_f16_d64 at 1 x 2 x 64 x 64, causal: 3 shared_conflicts, 0 before"]);
        assert_eq!(
            before.compare(&changed("warp_instructions", 15)),
            Comparison { worse: vec![], better: 1 }
        );
        assert_eq!(before.compare(&changed("least_bytes", 99)).worse.len(), 1);
        assert_eq!(before.compare(&Counts::default()).worse.len(), 1);
        assert_eq!(Counts::default().compare(&before).worse.len(), 1);
    }
}
