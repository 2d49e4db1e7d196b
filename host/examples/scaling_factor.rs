//! Why scores are divided by the square root of the head dimension.
//!
//! ```console
//! $ cargo run --release --example scaling_factor
//! ```
//!
//! The components of q and k are independent, with mean 0 and variance 1. Their inner product is a sum of `d` such products: its
//! variance is `d`. The table shows what a softmax makes of it for three scales.

use flash_attention::analysis::{self, HeadStatistics};
use flash_attention::{Device, Error, Options, Tensor};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;

/// Queries, and keys.
const LENGTH: usize = 256;

/// What a scale is called, and what it is for a head dimension.
type Scale = (&'static str, fn(f64) -> f64);

const SCALES: [Scale; 3] = [("1", |_| 1.0), ("1/sqrt(d)", |d| 1.0 / d.sqrt()), ("1/d", |d| 1.0 / d)];

/// One head dimension: the statistics for every scale.
struct Line {
    head_dim: usize,
    scales: Vec<HeadStatistics>,
}

fn main() -> Result<(), Error> {
    let mut random = SmallRng::seed_from_u64(0);
    let mut lines = vec![];
    println!(
        "{LENGTH} queries and keys; components with mean 0 and variance 1. std: of the scaled logits. max: mean over the rows"
    );
    println!(
        "of the largest weight. entropy: mean over the rows, in nats; ln {LENGTH} = {:.2} is that of equal weights.\n",
        uniform()
    );
    let names = SCALES.map(|(name, _)| format!("{:^35}", format!("scale {name}")));
    println!("{:>5} |{}", "", names.join("|"));
    let heading = format!("{:>8} {:>8} {:>8} {:>8}", "std", "max", "entropy", "one-hot");
    println!("{:>5} |{}", "d", vec![heading; SCALES.len()].join("|"));
    for head_dim in (3..=13).map(|power| 1 << power) {
        let line = measure(head_dim, &mut random)?;
        let cells = line.scales.iter().map(|head| {
            format!(
                "{:>8.4} {:>8.4} {:>8.3} {:>7.1}%",
                head.scores.deviation(),
                head.mean_row_maximum,
                head.mean_entropy,
                head.one_hot_share * 100.0
            )
        });
        println!("{head_dim:>5} |{}", cells.collect::<Vec<_>>().join("|"));
        lines.push(line);
    }
    println!();
    for (scale, (name, _)) in SCALES.iter().enumerate() {
        println!("{}", sentence(name, scale, &lines));
    }
    println!("{}", verdict(&lines));
    Ok(())
}

/// The entropy of equal weights.
fn uniform() -> f64 {
    (LENGTH as f64).ln()
}

fn measure(head_dim: usize, random: &mut SmallRng) -> Result<Line, Error> {
    let mut normal = |columns: usize| {
        let values: Vec<f32> = (0..LENGTH * columns).map(|_| random.sample(StandardNormal)).collect();
        Tensor::from_slice(&Device::cpu(), &values, &[1, LENGTH, columns])
    };
    let (q, k, v) = (normal(head_dim)?, normal(head_dim)?, normal(1)?);
    let mut scales = vec![];
    for (_, scale) in SCALES {
        let mut options = Options::default();
        options.scale = Some(scale(head_dim as f64) as f32);
        scales.extend(analysis::heads(&q, &k, &v, &options)?);
    }
    Ok(Line { head_dim, scales })
}

/// The power of d with which the spread of the logits grows: the slope of the line through the logarithms that is closest in the
/// mean square.
fn power(scale: usize, lines: &[Line]) -> f64 {
    let points: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| ((line.head_dim as f64).ln(), line.scales[scale].scores.deviation().ln()))
        .collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let products: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let squares: f64 = points.iter().map(|point| (point.0 - x) * (point.0 - x)).sum();
    products / squares
}

/// What the numbers of one scale show.
fn sentence(name: &str, scale: usize, lines: &[Line]) -> String {
    let power = power(scale, lines);
    let [first, last] = [&lines[0], &lines[lines.len() - 1]].map(|line| &line.scales[scale]);
    let change = match power {
        power if power.abs() < 0.05 => "does not depend on d".to_string(),
        power if power > 0.0 => format!("grows as d^{power:.2}"),
        power => format!("shrinks as d^{power:.2}"),
    };
    let share = last.mean_entropy / uniform();
    let end = match share {
        share if share < 0.1 => "rows listen to hardly more than one key",
        share if share > 0.99 => "all keys weigh the same, and what q and k say is lost",
        _ => "rows tell keys apart and still listen to many",
    };
    format!(
        "scale {name}: the spread of the logits {change}.\n  At d = {} the entropy is {:.1}% of the most there can be \
         (d = {}: {:.1}%): {end}.",
        lines[lines.len() - 1].head_dim,
        share * 100.0,
        lines[0].head_dim,
        first.mean_entropy / uniform() * 100.0
    )
}

/// The scales whose logits have the same spread whatever the head dimension.
fn verdict(lines: &[Line]) -> String {
    let steady = |scale: usize| {
        let spreads = lines.iter().map(|line| line.scales[scale].scores.deviation());
        spreads.clone().fold(0.0, f64::max) < 1.1 * spreads.fold(f64::INFINITY, f64::min)
    };
    let names: Vec<&str> =
        (0..SCALES.len()).filter(|&scale| steady(scale)).map(|scale| SCALES[scale].0).collect();
    match names[..] {
        [] => "No scale keeps the spread of the logits within a tenth over all d.".into(),
        [name] => format!("Only scale {name} keeps the spread of the logits within a tenth over all d."),
        _ => format!(
            "The scales {} keep the spread of the logits within a tenth over all d.",
            names.join(" and ")
        ),
    }
}
