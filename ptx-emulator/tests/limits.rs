//! What a launch may ask of a device, how it is stopped, and what errors say of the source.

mod common;
use common::emulator;
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, Module};
use rstest::rstest;
use std::sync::atomic::{AtomicBool, Ordering};

fn shape(grid: u32, block: u32, shared: u32) -> LaunchConfig {
    LaunchConfig { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared_bytes: shared }
}

fn dynamic(target: &str) -> Module {
    let text = format!(
        ".version 8.7\n.target {target}\n.address_size 64\n.extern .shared .align 16 .b8 tile[];\n.visible .entry k() {{
         .reg .b32 %r<4>; mov.u32 %r1, tile; st.shared.u32 [%r1], 0; ret;\n}}\n"
    );
    Module::parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

#[rstest]
#[case("sm_61", 48)]
#[case("sm_70", 96)]
#[case("sm_75", 64)]
#[case("sm_80", 163)]
#[case("sm_86", 99)]
#[case("sm_87", 163)]
#[case("sm_89", 99)]
#[case("sm_90a", 227)]
#[case("sm_100f", 227)]
#[case("sm_103a", 227)]
#[case("sm_110", 227)]
#[case("sm_120a", 99)]
#[case("sm_121", 99)]
fn a_block_has_the_shared_memory_of_its_target(#[case] target: &str, #[case] kib: u32) {
    let (module, emulator) = (dynamic(target), emulator());
    let launch = |bytes| emulator.launch(&module, "k", shape(1, 32, bytes), &[]);
    launch(kib << 10).unwrap_or_else(|e| panic!("{target}: {e}"));
    let error = launch((kib << 10) + 1).unwrap_err();
    assert!(matches!(error, LaunchError::Invalid { .. }), "{error}");
    let text = error.to_string();
    let number: u32 = module.capability().unwrap();
    for part in [
        "launch of `k`: 0 static and ",
        &format!("the limit of compute capability {number} is {}", kib << 10),
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn the_device_may_be_another_than_the_target() {
    let module = dynamic("sm_70");
    let ask = |config: Config, bytes| Emulator::new(config).launch(&module, "k", shape(1, 32, bytes), &[]);
    let hopper = || Config { capability: Some(90), ..Config::default() };
    ask(hopper(), 227 << 10).unwrap();
    assert!(ask(hopper(), (227 << 10) + 1).is_err());
    let given = || Config { shared_limit: Some(1000), ..hopper() };
    ask(given(), 1000).unwrap();
    assert!(ask(given(), 1001).unwrap_err().to_string().contains("the limit is 1000"));
}

#[test]
fn static_shared_memory_ends_at_48_kib() {
    let module = |bytes: u32| {
        let text = format!(
            ".version 8.7\n.target sm_90\n.address_size 64\n.visible .entry k() {{ .shared .align 4 .b8 tile[{bytes}];
             .reg .b32 %r<4>; mov.u32 %r1, tile; st.shared.u32 [%r1], 0; ret;\n}}\n"
        );
        Module::parse(&text).unwrap_or_else(|e| panic!("{e}"))
    };
    emulator().launch(&module(49152), "k", shape(1, 32, 0), &[]).unwrap();
    let error = emulator().launch(&module(49156), "k", shape(1, 32, 0), &[]).unwrap_err();
    assert!(error.to_string().contains("49156 bytes of static shared memory, the limit is 49152"), "{error}");
}

#[test]
fn a_read_stays_within_its_parameter() {
    let text = |offset: u32| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u32 a, .param .u32 b, .param .align 8 .b8 c[16]) {{
             .reg .b64 %rd<4>; mov.b64 %rd1, a; ld.param.u64 %rd2, [%rd1+{offset}]; ret;\n}}\n"
        )
    };
    let launch = |offset| {
        let module = Module::parse(&text(offset)).unwrap_or_else(|e| panic!("{e}"));
        emulator().launch(&module, "k", shape(1, 32, 0), &[&[0; 4], &[0; 4], &[0; 16]])
    };
    launch(8).unwrap();
    launch(16).unwrap();
    let error = launch(0).unwrap_err().to_string();
    assert!(error.contains("read of 8 bytes at offset 0 of parameter `a`, which has 4"), "{error}");
}

#[test]
fn a_launch_can_be_cancelled() {
    let cancel = AtomicBool::new(false);
    let bodies = ["bra L;", "bar.sync 0; bra L;", "bar.sync 1, 32; bra L;"];
    let ways = [(1, false), (4, false), (2, true)];
    for (body, (threads, checks)) in bodies.into_iter().flat_map(|body| ways.map(|way| (body, way))) {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry spin() {{\nL: {body}\n}}\n"
        );
        let module = Module::parse(&text).unwrap();
        cancel.store(false, Ordering::Relaxed);
        let emulator = Emulator::new(Config { threads, ..Config::default() });
        let error = std::thread::scope(|scope| {
            let launch = scope.spawn(|| {
                let options = LaunchOptions { cancel: Some(&cancel), checks, ..LaunchOptions::default() };
                emulator.launch_with(&module, "spin", shape(3, 64, 0), &[], &options).unwrap_err()
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            cancel.store(true, Ordering::Relaxed);
            launch.join().unwrap()
        });
        assert!(matches!(error, LaunchError::Cancelled { done: 0, blocks: 3, .. }), "{error}");
    }
}

#[test]
fn errors_name_the_source_of_both_parties() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.file 1 \"sum.cu\"\n.visible .entry k(.param .u64 out) {\n.reg .b64 %rd<3>;\n\
         .reg .b32 %r<3>;\n.reg .pred %p<2>;\nld.param.u64 %rd1, [out];\nmov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 0;\n.loc 1 12 5\n\
         @%p1 st.global.u32 [%rd1], %r1;\n.loc 1 14 9\n@!%p1 ld.global.u32 %r2, [%rd1];\nret;\n}\n";
    let module = Module::parse(text).unwrap();
    let emulator = Emulator::new(Config { threads: 1, ..Config::default() });
    let out = emulator.alloc(4).unwrap();
    let options = LaunchOptions { checks: true, ..LaunchOptions::default() };
    let error =
        emulator.launch_with(&module, "k", shape(2, 32, 0), &[&out.to_le_bytes()], &options).unwrap_err();
    let LaunchError::Fault { place, .. } = &error else { panic!("{error}") };
    assert_eq!(place.origin.as_deref(), Some("sum.cu:14:9"));
    let text = error.to_string();
    for part in
        ["at PTX line 13 (`@%p1 st.global.u32 [%rd1], %r1;`), source sum.cu:12:5", "source sum.cu:14:9"]
    {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}
