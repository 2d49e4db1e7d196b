//! PTX of other compilers, nvcc and Triton, held against NumPy: with and without checks, and in another order of warps.
//!
//! `cargo xtask foreign-ptx` compiles `tests/foreign` into a folder, which `FOREIGN_PTX` names, and runs this.

#[path = "foreign/forms.rs"]
mod forms;

use half::{bf16, f16};
use ptx_emulator::{
    Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, Module, Schedule, Swizzle, TensorMap,
    TensorMapType,
};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Elements of a result, as the expected ones are written down: integers or floats.
enum Elements {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
}

fn elements(kind: &str, bytes: &[u8]) -> Elements {
    macro_rules! all {
        ($ty:ty) => {
            bytes.chunks_exact(size_of::<$ty>()).map(|c| <$ty>::from_le_bytes(c.try_into().unwrap()))
        };
    }
    match kind {
        "u8" => Elements::Integers(all!(u8).map(i64::from).collect()),
        "i8" => Elements::Integers(all!(i8).map(i64::from).collect()),
        "u16" => Elements::Integers(all!(u16).map(i64::from).collect()),
        "i16" => Elements::Integers(all!(i16).map(i64::from).collect()),
        "u32" => Elements::Integers(all!(u32).map(i64::from).collect()),
        "i32" => Elements::Integers(all!(i32).map(i64::from).collect()),
        "i64" | "u64" => Elements::Integers(all!(i64).collect()),
        "f16" => Elements::Floats(all!(u16).map(|b| f16::from_bits(b).to_f64()).collect()),
        "bf16" => Elements::Floats(all!(u16).map(|b| bf16::from_bits(b).to_f64()).collect()),
        "f32" => Elements::Floats(all!(f32).map(f64::from).collect()),
        "f64" => Elements::Floats(all!(f64).collect()),
        other => panic!("cases.json names the type {other}"),
    }
}

/// The first element that is not as expected.
fn compare(output: &Value, found: &[u8], expected: &[u8]) -> Result<(), String> {
    let name = output["buffer"].as_str().unwrap();
    let wrong = |at: usize, what: String| Err(format!("`{name}`[{at}] is {what}"));
    match elements(output["type"].as_str().unwrap(), found) {
        Elements::Integers(found) => {
            let expected = expected.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap()));
            assert_eq!(found.len(), expected.len(), "elements of `{name}`");
            for (at, (found, expected)) in found.into_iter().zip(expected).enumerate() {
                if found != expected {
                    return wrong(at, format!("{found:#x}, expected {expected:#x}"));
                }
            }
        }
        Elements::Floats(found) => {
            let (absolute, relative) =
                (output["absolute"].as_f64().unwrap(), output["relative"].as_f64().unwrap());
            let expected = expected.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap()));
            assert_eq!(found.len(), expected.len(), "elements of `{name}`");
            for (at, (found, expected)) in found.into_iter().zip(expected).enumerate() {
                let tolerance = absolute + relative * expected.abs();
                let same = found == expected || (found.is_nan() && expected.is_nan());
                let close = expected.is_finite() && (found - expected).abs() <= tolerance;
                if !same && !close {
                    return wrong(at, format!("{found:e}, expected {expected:e}, tolerance {tolerance:e}"));
                }
            }
        }
    }
    Ok(())
}

/// The bytes of a tensor map, as `cuTensorMapEncodeTiled` is asked for them.
fn tensor_map(map: &Value, address: u64) -> Vec<u8> {
    let numbers = |key: &str| -> Vec<u64> {
        map[key].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
    };
    let data_type = match map["type"].as_u64().unwrap() {
        6 => TensorMapType::F16,
        7 => TensorMapType::F32,
        other => panic!("no case has elements of type {other}"),
    };
    let swizzle = match map["swizzle"].as_u64().unwrap() {
        0 => Swizzle::None,
        1 => Swizzle::B32,
        2 => Swizzle::B64,
        _ => Swizzle::B128,
    };
    let sizes = numbers("shape");
    let map = TensorMap {
        data_type,
        address,
        strides: vec![map["stride"].as_u64().unwrap()],
        box_sizes: numbers("box").iter().map(|&x| x as u32).collect(),
        element_strides: vec![1; sizes.len()],
        sizes,
        swizzle,
        fill_nan: false,
    };
    map.encode().unwrap().to_vec()
}

struct Buffers<'a> {
    emulator: &'a Emulator,
    addresses: HashMap<String, (u64, u64)>,
}

impl Buffers<'_> {
    fn new<'a>(emulator: &'a Emulator, data: &SafeTensors) -> Buffers<'a> {
        let mut addresses = HashMap::new();
        for (name, tensor) in data.tensors() {
            if let Some(name) = name.strip_prefix("in:") {
                let address = emulator.alloc(tensor.data().len() as u64).unwrap();
                emulator.write(address, tensor.data()).unwrap();
                addresses.insert(name.to_string(), (address, tensor.data().len() as u64));
            }
        }
        Buffers { emulator, addresses }
    }

    fn argument(&self, arg: &Value) -> Vec<u8> {
        if let Some(name) = arg["buffer"].as_str() {
            self.addresses[name].0.to_le_bytes().to_vec()
        } else if let Some(hex) = arg["bytes"].as_str() {
            (0..hex.len() / 2).map(|k| u8::from_str_radix(&hex[2 * k..2 * k + 2], 16).unwrap()).collect()
        } else if let Some(size) = arg["scratch"].as_u64() {
            if size == 0 { vec![0; 8] } else { self.emulator.alloc(size).unwrap().to_le_bytes().to_vec() }
        } else {
            let map = &arg["map"];
            tensor_map(map, self.addresses[map["buffer"].as_str().unwrap()].0)
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        let (address, size) = self.addresses[name];
        let mut bytes = vec![0; size as usize];
        self.emulator.read(address, &mut bytes).unwrap();
        bytes
    }
}

/// All launches of a case; gives the thread instructions, and what was printed.
fn launches(
    case: &Value,
    module: &Module,
    buffers: &Buffers,
    options: &LaunchOptions,
) -> Result<(u64, String), LaunchError> {
    let (mut instructions, mut printed) = (0, String::new());
    for launch in case["launches"].as_array().unwrap() {
        let shape = |key: &str| [0, 1, 2].map(|k| launch[key][k].as_u64().unwrap() as u32);
        let config = LaunchConfig {
            grid: shape("grid"),
            block: shape("block"),
            dynamic_shared_bytes: launch["shared"].as_u64().unwrap() as u32,
        };
        let args: Vec<Vec<u8>> =
            launch["args"].as_array().unwrap().iter().map(|a| buffers.argument(a)).collect();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let entry = launch["entry"].as_str().unwrap();
        let options = LaunchOptions { cooperative: launch["cooperative"].as_bool().unwrap(), ..*options };
        let stats = buffers.emulator.launch_with(module, entry, config, &args, &options)?;
        instructions += stats.thread_instructions;
        printed += &stats.printed;
    }
    Ok((instructions, printed))
}

/// Runs a case once; gives its thread instructions.
fn run(case: &Value, module: &Module, data: &SafeTensors, options: &LaunchOptions) -> Result<u64, String> {
    let emulator = Emulator::new(Config { max_instructions: Some(50_000_000), ..Config::default() });
    let buffers = Buffers::new(&emulator, data);
    let (instructions, printed) = match (launches(case, module, &buffers, options), case["fails"].as_str()) {
        (Err(error), Some(part)) if error.to_string().contains(part) => return Ok(0),
        (Err(error), _) => return Err(error.to_string()),
        (Ok(_), Some(part)) => return Err(format!("it should have failed with `{part}`")),
        (Ok(done), None) => done,
    };
    if let Some(expected) = case["printed"].as_str()
        && printed != expected
    {
        return Err(format!("it printed {printed:?}, not {expected:?}"));
    }
    for output in case["outputs"].as_array().unwrap() {
        let name = output["buffer"].as_str().unwrap();
        let expected = data.tensor(&format!("out:{name}")).unwrap();
        compare(output, &buffers.read(name), expected.data())?;
    }
    Ok(instructions)
}

/// Plainly, with checks, and in another order.
fn run_all(case: &Value, module: &Result<Module, String>, data: &SafeTensors) -> Result<u64, String> {
    let module = module.as_ref().map_err(|e| format!("it cannot be parsed: {e}"))?;
    let instructions = run(case, module, data, &LaunchOptions::default())?;
    let checked = LaunchOptions { checks: true, ..LaunchOptions::default() };
    match (run(case, module, data, &checked), case["checked"].as_str()) {
        (Err(found), Some(part)) if found.contains(part) => {}
        (Ok(_), Some(part)) => return Err(format!("checks should have found `{part}`")),
        (result, _) => drop(result.map_err(|e| format!("with checks: {e}"))?),
    }
    let seeded = LaunchOptions { schedule: Schedule::Seeded(7), ..LaunchOptions::default() };
    run(case, module, data, &seeded).map_err(|e| format!("in the order of seed 7: {e}"))?;
    Ok(instructions)
}

#[test]
#[ignore = "needs nvcc and Triton: `cargo xtask foreign-ptx` installs them, compiles the kernels and runs this"]
fn kernels_of_nvcc_and_triton_have_the_results_of_numpy() {
    let folder = std::env::var("FOREIGN_PTX").expect("FOREIGN_PTX names the folder with cases.json");
    let folder = Path::new(&folder);
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let cases: Value = serde_json::from_slice(&read("cases.json")).unwrap();
    let cases = cases.as_array().unwrap();
    let mut modules: HashMap<&str, Result<Module, String>> = HashMap::new();
    let mut failures = 0;
    println!("{:32} {:16} {:10} {:>20}  result", "kernel", "compiler", "target", "thread instructions");
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let bytes = read(text("data"));
        let data = SafeTensors::deserialize(&bytes).unwrap();
        let module = modules.entry(text("ptx")).or_insert_with(|| {
            Module::parse(&String::from_utf8(read(text("ptx"))).unwrap()).map_err(|e| e.to_string())
        });
        let (count, result) = match run_all(case, module, &data) {
            Ok(count) => (count.to_string(), "good".to_string()),
            Err(what) => {
                failures += 1;
                (String::new(), format!("FAILED: {what}"))
            }
        };
        println!("{:32} {:16} {:10} {count:>20}  {result}", text("name"), text("compiler"), text("target"));
    }
    println!("{} of {} cases are good", cases.len() - failures, cases.len());
    assert!(failures == 0 && !cases.is_empty(), "{failures} of {} cases failed", cases.len());
}
