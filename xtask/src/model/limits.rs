//! The counts held against GPUs: the generated part of the README, and the picture.

use super::counts::{Counts, Figures, Key};
use crate::ptxas::Ratchet;
use anyhow::{Context, Result};
use ptx_emulator::profile::{Demand, Gpu, Roofline, Shown, Unit, svg};
use std::collections::BTreeMap;

/// The GPUs of the tables, and the target that each runs.
const GPUS: [(&str, &str); 2] = [("A100", "sm_80"), ("H200", "sm_90")];

/// The units of the table, in the order of its columns.
const UNITS: [Unit; 7] =
    [Unit::Issue, Unit::Float, Unit::Integer, Unit::Matrix, Unit::Special, Unit::Shared, Unit::Memory];

/// What a kernel computes, in a word.
fn role(key: &Key) -> &str {
    match key.role.as_str() {
        "grad_key_value" => "dk/dv",
        "grad_query" => "dq",
        "grad_fused" => "dq, dk and dv",
        other => other,
    }
}

fn name(key: &Key, figures: &Figures) -> String {
    let causal = if figures.get("causal") > 0 { ", causal" } else { "" };
    let backend = if key.kernel.starts_with("flash") { "Flash" } else { "Efficient" };
    format!("{backend} {} d {}{causal}", role(key), figures.get("head_dim"))
}

/// Warp instructions of the SASS: as many as there are products, times what the plain loop has for each. Prologue, epilogue and
/// masked steps, which have more, are taken for plain ones.
fn assembled(key: &Key, figures: &Figures, sass: &Ratchet, target: &str) -> Option<f64> {
    let others = sass.others_for_each_product(&key.kernel, target)?;
    Some(figures.get("product_instructions") as f64 * (1.0 + others))
}

fn roofline(key: &Key, figures: &Figures, sass: &Ratchet, gpu: &str, target: &str) -> Option<Roofline> {
    Some(Roofline::new(Gpu::named(gpu)?, &figures.demand(assembled(key, figures, sass, target))))
}

/// Kernels whose formulas have products; causal ones too, or not.
fn shown(counts: &Counts, causal: bool) -> impl Iterator<Item = &(Key, Figures)> {
    let of_products = |(_, figures): &&(Key, Figures)| figures.get("flops") > 0;
    counts.all.iter().filter(of_products).filter(move |(_, f)| causal || f.get("causal") == 0)
}

fn costs(counts: &Counts, sass: &Ratchet) -> String {
    // Causal or not is said in each row.
    let problem = counts.all.first().and_then(|(key, _)| key.problem.split(',').next()).unwrap_or("");
    // Rows name the head dim themselves.
    let problem = problem.rsplit_once(" x ").map_or(problem, |(sizes, _)| sizes);
    let mut text = format!(
        "| f16, {problem} | instructions a score, in PTX | in SASS of sm_80 | global bytes asked for, of the least possible | bytes of their sectors, of the least | bank conflicts |\n|---|---|---|---|---|---|\n"
    );
    for (key, figures) in shown(counts, true) {
        let get = |name| figures.get(name) as f64;
        let assembled = assembled(key, figures, sass, "sm_80");
        text += &format!(
            "| {} | {:.1} | {} | {:.1} x | {:.1} x | {} |\n",
            name(key, figures),
            get("thread_instructions") / get("scores"),
            assembled.map_or_else(|| "–".into(), |n| format!("{:.1}", 32.0 * n / get("scores"))),
            get("global_bytes") / get("least_bytes"),
            get("sector_bytes") / get("least_bytes"),
            figures.get("shared_conflicts"),
        );
    }
    text
}

/// TFLOP/s that a time allows.
fn allowed(roofline: &Roofline, seconds: f64) -> String {
    roofline.throughput(seconds).map_or_else(|| "–".into(), |flops| format!("{:.0}", flops / 1e12))
}

fn throughputs(counts: &Counts, sass: &Ratchet) -> String {
    let mut text = String::from(
        "| TFLOP/s at most | GPU | issue slots | f32 | integers | matrix units | special functions | shared memory | memory, least bytes | memory without caches | bound by |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (gpu, target) in GPUS {
        for (key, figures) in shown(counts, false) {
            let Some(roofline) = roofline(key, figures, sass, gpu, target) else { continue };
            let units = UNITS.map(|unit| allowed(&roofline, roofline.limit(unit).seconds)).join(" | ");
            text += &format!(
                "| {} | {gpu} | {units} | {} | {} |\n",
                name(key, figures),
                allowed(&roofline, roofline.uncached_seconds),
                roofline.bound().unit.name(),
            );
        }
    }
    text
}

/// What bounds which kernel on a GPU, as a sentence.
fn bounds(counts: &Counts, sass: &Ratchet, gpu: &str, target: &str) -> String {
    let mut by_unit: BTreeMap<Unit, Vec<String>> = BTreeMap::new();
    for (key, figures) in shown(counts, true) {
        if let Some(roofline) = roofline(key, figures, sass, gpu, target) {
            by_unit.entry(roofline.bound().unit).or_default().push(name(key, figures));
        }
    }
    let each = by_unit.iter().map(|(unit, kernels)| format!("{} ({})", unit.name(), kernels.join("; ")));
    format!("On the {gpu} the bound is {}.", each.collect::<Vec<_>>().join(" or "))
}

/// The generated part of the README.
pub fn part(counts: &Counts, sass: &Ratchet) -> String {
    let bounds = GPUS.map(|(gpu, target)| bounds(counts, sass, gpu, target)).join("\n");
    format!("{}\n{}\n{bounds}\n", costs(counts, sass), throughputs(counts, sass))
}

/// The rooflines of the forward kernels, as SVG.
pub fn picture(counts: &Counts, sass: &Ratchet) -> Result<String> {
    let mut all: Vec<(String, Demand, &'static Gpu)> = Vec::new();
    for (key, figures) in shown(counts, false).filter(|(key, _)| key.role == "forward") {
        for (gpu, target) in GPUS {
            let known = Gpu::named(gpu).with_context(|| format!("the emulator does not know the {gpu}"))?;
            let demand = figures.demand(assembled(key, figures, sass, target));
            all.push((name(key, figures), demand, known));
        }
    }
    let panels: Vec<Shown> = all.iter().map(|(name, demand, gpu)| Shown { name, demand, gpu }).collect();
    svg(&panels, GPUS.len()).map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::counts::tests::MEASURED;

    /// Two problems of one kernel, causal and not, which has 2 others for each product.
    fn both() -> (Counts, Ratchet) {
        let mut counts = Counts::measured(MEASURED).unwrap();
        counts.all.extend(Counts::measured(&MEASURED.replace("upper-left", "none")).unwrap().all);
        let sass =
            r#"{ "ptxas": "13", "kernels": { "flash_forward_f16_d64": { "sm_80": [200, 0, 0, 2.00] } } }"#;
        (counts, Ratchet::parse(sass).unwrap())
    }

    #[test]
    fn tables_show_what_was_counted() {
        let (counts, sass) = both();
        let text = part(&counts, &sass);
        // 512 thread instructions for 10 scores; 2 products and 4 others of 32 lanes; 200 and 256 of 100 bytes.
        assert!(text.contains("| Flash forward d 64 | 51.2 | 19.2 | 2.0 x | 2.6 x | 0 |\n"), "{text}");
        assert!(text.contains("| Flash forward d 64, causal | 51.2 |"), "{text}");
        // 2560 operations while 8192 take 4 cycles of a multiprocessor, of 108 at 1.41 GHz; 6 instructions, 4 a cycle; 5 of f32 and
        // 3 of integers, each half a cycle.
        let rate = 2560.0 * 108.0 * 1.41e9 / 1e12;
        let [issue, float, integer, matrix] = [1.5, 2.5, 1.5, 4.0].map(|cycles| rate / cycles);
        let row =
            format!("| Flash forward d 64 | A100 | {issue:.0} | {float:.0} | {integer:.0} | {matrix:.0} | ");
        assert!(text.contains(&row), "{row}: {text}");
        assert!(
            text.contains(
                "On the A100 the bound is memory (Flash forward d 64, causal; Flash forward d 64)."
            ),
            "{text}"
        );
    }

    #[test]
    fn without_sass_the_instructions_of_the_ptx_count() {
        let (counts, _) = both();
        let text = part(&counts, &Ratchet::default());
        assert!(text.contains("| Flash forward d 64 | 51.2 | – |"), "{text}");
        let rate = 2560.0 * 108.0 * 1.41e9 / 1e12;
        assert!(text.contains(&format!("| Flash forward d 64 | A100 | {:.0} |", rate / 4.0)), "{text}");
    }

    #[test]
    fn the_picture_has_every_forward_kernel_that_is_not_causal() {
        let (counts, sass) = both();
        let text = picture(&counts, &sass).unwrap();
        assert!(text.contains("Flash forward d 64 on A100") && text.contains("Flash forward d 64 on H200"));
        assert!(!text.contains("causal"));
    }
}
