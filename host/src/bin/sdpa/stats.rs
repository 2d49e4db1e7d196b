//! `sdpa stats`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use flash_attention::analysis::{self, HeadStatistics, Spread};

use crate::arguments::Stats;
use crate::destination::Destination;
use crate::output::{Words, table};
use crate::plot::{self, Format};
use crate::problem::{Loaded, load, summary};
use crate::{Failure, words};

/// Prints what logits and weights look like, and draws one head.
pub fn stats(arguments: &Stats) -> Result<ExitCode, Failure> {
    let plot =
        arguments.plot.as_deref().map(|path| Ok::<_, Failure>((format(path)?, Destination::new(path)?)));
    let plot = plot.transpose()?;
    let Loaded { case, .. } = load(&arguments.input)?;
    let heads = analysis::heads(&case.q, &case.k, &case.v, &case.options).map_err(words)?;
    let at = [("batch", arguments.batch), ("head", arguments.head)];
    if plot.is_some() {
        let counts = heads.last().map_or([0; 2], |last| [last.batch + 1, last.head + 1]);
        for ((name, given), count) in at.into_iter().zip(counts) {
            if given >= count {
                return Err(format!("--{name} is {given}; the problem has {count}, the first of which is 0"));
            }
        }
    }
    let words_to = match &plot {
        Some((_, destination)) if destination.is_stdout() => Words::Stderr,
        _ => Words::Stdout,
    };
    words_to.say(&summary(&arguments.input, &case));
    words_to.say(&rows(&heads));
    for line in notes(&heads, case.options.dropout.is_some()) {
        words_to.say(&line);
    }
    if let Some((format, destination)) = plot {
        let picture = analysis::picture(
            &case.q,
            &case.k,
            &case.v,
            &case.options,
            at.map(|(_, index)| index),
            plot::CELLS,
        )
        .map_err(words)?;
        let name = arguments.input.file.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
        let title = format!("weights of batch {}, head {}: {name}", arguments.batch, arguments.head);
        destination.write(&plot::file(&picture, &title, format)?)?;
        words_to.say(&format!("wrote {title} to {}", destination.name()));
    }
    Ok(ExitCode::SUCCESS)
}

fn format(path: &Path) -> Result<Format, Failure> {
    match path.extension().and_then(OsStr::to_str) {
        Some("png") => Ok(Format::Png),
        Some("svg") => Ok(Format::Svg),
        _ => Err(format!("--plot is {}; its name must end with .png or .svg", path.display())),
    }
}

/// One row a head.
fn rows(heads: &[HeadStatistics]) -> String {
    let heading = [
        "batch",
        "head",
        "q.k\nmin",
        "\nmax",
        "\nstd",
        "score\nmin",
        "\nmax",
        "\nstd",
        "row\nmax",
        "entropy",
        "one-hot",
        "NaN",
        "inf",
    ];
    let mut rows = table(&heading, 0..heading.len());
    rows.column_iter_mut().enumerate().for_each(|(i, column)| {
        column.set_padding((u16::from(i == 0), 1));
    });
    for head in heads {
        let spread = |spread: &Spread| match spread.count {
            0 => ["–"; 3].map(String::from),
            _ => [spread.min, spread.max, spread.deviation()].map(short),
        };
        let [raw, scores] = [&head.raw, &head.scores].map(spread);
        let of_rows = match head.rows {
            0 => ["–"; 3].map(String::from),
            _ => [
                short(head.mean_row_maximum),
                short(head.mean_entropy),
                format!("{:.1}%", head.one_hot_share * 100.0),
            ],
        };
        // What is not finite already in q.k is so in the score too, unless a softcap bounds it.
        let counts = [head.raw.nan.max(head.scores.nan), head.raw.infinite.max(head.scores.infinite)];
        let cells =
            [vec![head.batch.to_string(), head.head.to_string()], raw.into(), scores.into(), of_rows.into()];
        rows.add_row(cells.concat().into_iter().chain(counts.map(|count| count.to_string())));
    }
    rows.to_string()
}

/// About four digits that count.
fn short(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-3..1e5).contains(&magnitude) {
        return format!("{number:.2e}");
    }
    let digits = if magnitude < 1.0 { 3 } else { 3 - (magnitude.log10() as usize).min(3) };
    format!("{number:.digits$}")
}

/// What the table does not say.
fn notes(heads: &[HeadStatistics], dropout: bool) -> Vec<String> {
    let mut notes = vec![
        "q.k: before scaling. score: what the softmax gets. Both are of pairs that see each other.\nrow max, entropy (in \
         nats): means over the rows. one-hot: rows whose largest weight is above 0.99."
            .to_string(),
    ];
    let total = |count: fn(&HeadStatistics) -> usize| heads.iter().map(count).sum::<usize>();
    for (count, what) in [
        (total(|head| head.empty_rows), "see no key"),
        (total(|head| head.nan_rows), "have weights that are NaN"),
    ] {
        if count > 0 {
            notes.push(format!("{count} rows {what}; they are not in the means."));
        }
    }
    if dropout {
        notes.push("Weights are those before dropout.".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_four_digits_that_count() {
        let words = [0.0, 0.12345, -1.23456, 12.3456, 1234.56, -98765.4, 1.0e6, 1.234e-5].map(short);
        assert_eq!(words, ["0.000", "0.123", "-1.235", "12.35", "1235", "-98765", "1.00e6", "1.23e-5"]);
    }
}
