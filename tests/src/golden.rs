//! Problems from files whose expected values another implementation computed.

use std::path::{Path, PathBuf};

use flash_attention::case::Case;
use flash_attention::{Backend, Dtype, Tensor, sdpa};
use safetensors::SafeTensors;

use crate::compare::{GOLDEN_FLOOR, compare};
use crate::devices::Target;

/// A file of the folder.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name without the extension.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The folder that a variable of the environment names, else one from this crate's source; a packed test program is elsewhere.
fn place(variable: &str, from_source: &str) -> PathBuf {
    std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(from_source), PathBuf::from)
}

/// Where the golden cases are: `$FLASH_ATTENTION_GOLDEN`, else beside the workspace.
pub fn folder() -> PathBuf {
    place("FLASH_ATTENTION_GOLDEN", "../../shared/golden")
}

/// Where the examples are that come with the workspace: `$FLASH_ATTENTION_EXAMPLES`, else in it.
pub fn examples() -> PathBuf {
    place("FLASH_ATTENTION_EXAMPLES", "../examples")
}

/// The safetensors files in a folder, in order of their names; `None` where there is no such folder.
///
/// # Errors
/// Where a file cannot be read or is no safetensors file.
pub fn files(folder: &Path) -> Option<Result<Vec<File>, String>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    Some(paths.into_iter().map(file).collect())
}

fn file(path: PathBuf) -> Result<File, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let bytes = std::fs::read(&path).map_err(|error| named(error.to_string()))?;
    SafeTensors::read_metadata(&bytes).map_err(|error| named(error.to_string()))?;
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(File { name, path })
}

/// Runs a case, forward and backward by a backend that is asked for, and holds out, lse, dq, dk and dv against the file. Keys are
/// divided in `splits` parts, those of the target where it is 0.
///
/// # Errors
/// In words, for what goes wrong, every tensor that is wrong, and every one that the file does not expect.
pub fn run(path: &Path, target: &Target, splits: usize) -> Result<(), String> {
    run_with(path, target, splits, None)
}

/// The same with or without atomic additions in backward.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    path: &Path,
    target: &Target,
    splits: usize,
    deterministic: Option<bool>,
) -> Result<(), String> {
    check(path, target, splits, deterministic).map_err(|error| error.to_string())?
}

/// Whether a backend takes a case: tensor cores multiply f16 and bf16 alone. All that are in files have rows of whole pieces.
///
/// # Errors
/// Where the file cannot be read.
pub fn takes(path: &Path, backend: Backend) -> Result<bool, String> {
    let case = Case::read(path, &flash_attention::Device::cpu()).map_err(|error| error.to_string())?;
    Ok(backend != Backend::Flash || case.q.dtype() != Dtype::F32)
}

/// A case that a backend does not take is refused in words.
///
/// # Errors
/// Where it is not, or not in these words.
pub fn refused(path: &Path, Target { device, backend, .. }: &Target) -> Result<(), String> {
    let case = Case::read(path, device).map_err(|error| error.to_string())?;
    let call = sdpa(&case.q, &case.k, &case.v).options(case.options.clone()).backend(*backend);
    let Err(error) = call.run() else { return Err("it ran".into()) };
    let words = "flash cannot run this: tensor cores multiply f16 and bf16, and the tensors are f32";
    if error.to_string() == words { Ok(()) } else { Err(error.to_string()) }
}

fn check(
    path: &Path,
    Target { device, backend, splits: own }: &Target,
    splits: usize,
    deterministic: Option<bool>,
) -> flash_attention::Result<Result<(), String>> {
    let case = Case::read(path, device)?;
    let mut options = case.options.clone();
    options.splits = if splits == 0 { *own } else { splits };
    options.deterministic = deterministic;
    let forward = sdpa(&case.q, &case.k, &case.v).options(options).backend(*backend).forward()?;
    if forward.backend() != *backend {
        return Ok(Err(format!("{} ran on {device}", forward.backend())));
    }
    let Some(dout) = &case.dout else { return Ok(Err("the file has no dout".into())) };
    let gradients = forward.backward_with(dout, case.dlse.as_ref())?;
    let results: [(&str, &Tensor); 5] = [
        ("out", forward.output()),
        ("lse", forward.lse()),
        ("dq", &gradients.dq),
        ("dk", &gradients.dk),
        ("dv", &gradients.dv),
    ];
    let mut wrong = vec![];
    for (name, given) in results {
        let Some(expected) = case.expected.get(name) else {
            wrong.push(format!("the file does not expect {name}"));
            continue;
        };
        if given.shape() != expected.shape() {
            wrong.push(format!("{name} has the shape {:?}, not {:?}", given.shape(), expected.shape()));
        }
        let error = match (name, case.reference_errors.get(name)) {
            ("lse", _) => 0.0,
            (_, Some(&error)) => error,
            (_, None) => {
                wrong.push(format!("the file has no err_{name}"));
                continue;
            }
        };
        let (given, expected) = (given.to_f64()?, expected.to_f64()?);
        wrong.extend(compare(name, &given, &expected, error, case.q.dtype(), GOLDEN_FLOOR).err());
    }
    let checks = case.check(forward.output(), forward.lse(), Some(&gradients))?;
    let agrees = checks.len() == results.len() && checks.iter().all(|check| check.good) == wrong.is_empty();
    if !agrees {
        wrong.push(format!("the library's own check says otherwise: {checks:?}"));
    }
    Ok(if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) })
}
