//! `sdpa sweep`.

use std::process::ExitCode;
use std::time::Duration;

use flash_attention::case::Case;
use flash_attention::{Backend, Kind, Result as SdpaResult, Verdict, sdpa};

use crate::arguments::Sweep;
use crate::output::{say, table};
use crate::problem::{Loaded, load, summary};
use crate::progress::Steps;
use crate::{Failure, words};

/// Times every backend that can, and prints the ranking.
pub fn sweep(arguments: &Sweep) -> Result<ExitCode, Failure> {
    let Loaded { case, device } = load(&arguments.input)?;
    let explanation =
        sdpa(&case.q, &case.k, &case.v).options(case.options.clone()).explain().map_err(words)?;
    let asked = |verdict: &&Verdict| {
        let backends = &arguments.input.backends;
        backends.contains(&Backend::Auto) || backends.contains(&verdict.backend)
    };
    let (can, cannot): (Vec<_>, Vec<_>) =
        explanation.verdicts.iter().filter(asked).partition(|verdict| verdict.can());
    say(&summary(&arguments.input, &case));
    say(&format!("device {device}"));

    let steps = Steps::new(can.len() as u64 * (u64::from(arguments.repeats) + 1));
    let mut ranking = vec![];
    for verdict in can {
        ranking.push((verdict.backend, measure(&case, verdict.backend, arguments, &steps)?));
    }
    steps.finish();
    ranking.sort_by_key(|&(_, time)| time);
    print(&ranking, &cannot, arguments);
    if case.q.device().kind() == Kind::Emulator && ranking.iter().any(|&(b, _)| b != Backend::Math) {
        say(
            "These are times of the emulator, which runs the kernels on the CPU: they say nothing of a GPU. math runs natively.",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The median time of one backend.
fn measure(case: &Case, backend: Backend, arguments: &Sweep, steps: &Steps) -> Result<Duration, Failure> {
    steps.say(backend.name());
    let once = || -> SdpaResult<()> {
        let forward =
            sdpa(&case.q, &case.k, &case.v).options(case.options.clone()).backend(backend).forward()?;
        if arguments.backward {
            forward.backward_with(case.dout.as_ref().unwrap_or(forward.output()), case.dlse.as_ref())?;
        }
        Ok(())
    };
    // Modules are loaded and memory is taken the first time.
    case.q.device().time(once).map_err(words)?;
    steps.step();
    let mut times = vec![];
    for _ in 0..arguments.repeats {
        times.push(case.q.device().time(once).map_err(words)?);
        steps.step();
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let (lower, upper) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    (lower + upper) / 2
}

fn print(ranking: &[(Backend, Duration)], cannot: &[&Verdict], arguments: &Sweep) {
    let what = if arguments.backward { "forward and backward" } else { "forward" };
    say(&format!("{what}, median of {} after a warm-up", arguments.repeats));
    let mut rows = table(&["rank", "backend", "ms", "x fastest", "why not"], 2..4);
    let fastest = ranking.first().map_or(0.0, |(_, time)| time.as_secs_f64());
    for (i, (backend, time)) in ranking.iter().enumerate() {
        let ratio = time.as_secs_f64() / fastest;
        rows.add_row([
            (i + 1).to_string(),
            backend.name().into(),
            format!("{:.3}", time.as_secs_f64() * 1e3),
            format!("{ratio:.2}"),
            String::new(),
        ]);
    }
    for verdict in cannot {
        rows.add_row(["–", verdict.backend.name(), "–", "–", &verdict.reasons.join("\n")]);
    }
    say(&rows.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let times = |ms: &[u64]| median(ms.iter().map(|&ms| Duration::from_millis(ms)).collect());
        assert_eq!(times(&[9, 1, 2]), Duration::from_millis(2));
        assert_eq!(times(&[9, 1, 2, 4]), Duration::from_millis(3));
        assert_eq!(times(&[7]), Duration::from_millis(7));
    }
}
