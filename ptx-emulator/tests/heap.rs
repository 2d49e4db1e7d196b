//! `malloc` and `free` of kernels: what they give, and planted bugs around them, each with its corrected twin.

mod common;
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchOptions, Module, Schedule};

const HEAD: &str = ".version 8.3\n.target sm_90a\n.address_size 64
    .extern .func (.param .b64 func_retval0) malloc (.param .b64 malloc_param_0);
    .extern .func free (.param .b64 free_param_0);\n";

/// A kernel `name`. `%rd1` is its parameter, `%r1` the thread, `%p1` is true in thread 0, `%p2` in warp 0; `MALLOC d, size;` and `FREE a;` are
/// calls.
fn entry(name: &str, body: &str) -> String {
    let call = |text: String, name: &str, make: fn(&str) -> String| {
        let mut parts = text.split(name);
        let first = parts.next().unwrap().to_string();
        parts.fold(first, |all, part| {
            let (operands, rest) = part.split_once(';').unwrap();
            all + &make(operands) + rest
        })
    };
    let text = call(body.into(), "MALLOC ", |operands| {
        let (to, size) = operands.split_once(", ").unwrap();
        format!(
            "{{ .param .b64 a; .param .b64 r; st.param.b64 [a], {size}; call.uni (r), malloc, (a); ld.param.b64 {to}, [r]; }}"
        )
    });
    let text = call(text, "FREE ", |address| {
        format!("{{ .param .b64 a; st.param.b64 [a], {address};\n call.uni free, (a);\n }}")
    });
    format!(
        ".visible .entry {name}(.param .u64 out) {{
        .reg .pred %p<8>; .reg .b32 %r<12>; .reg .b64 %rd<12>; .shared .align 8 .b64 passed;
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %r1, 32;
        mov.u32 %r9, %ctaid.x; {text}\nret; }}\n"
    )
}

fn parse(entries: &[String]) -> Module {
    let text = HEAD.to_string() + &entries.concat();
    Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn device(heap_limit: u64) -> Emulator {
    Emulator::new(Config { threads: 2, max_instructions: Some(10_000_000), heap_limit, ..Config::default() })
}

/// Launches a kernel of `blocks` blocks of `threads` threads.
fn launch(
    emulator: &Emulator,
    module: &Module,
    name: &str,
    (blocks, threads): (u32, u32),
    out: u64,
    options: &LaunchOptions,
) -> Result<(), String> {
    let shape = LaunchConfig { grid: [blocks, 1, 1], block: [threads, 1, 1], dynamic_shared_bytes: 0 };
    emulator
        .launch_with(module, name, shape, &[&out.to_le_bytes()], options)
        .map(drop)
        .map_err(|e| e.to_string())
}

fn longs(emulator: &Emulator, address: u64, count: usize) -> Vec<u64> {
    let mut bytes = vec![0; 8 * count];
    emulator.read(address, &mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect()
}

/// The place of a thread in the output.
const OWN: &str = "mad.lo.u32 %r2, %r9, 32, %r1; mul.wide.u32 %rd2, %r2, 8; add.u64 %rd2, %rd1, %rd2;";

#[test]
fn what_malloc_gives_lives_on_until_it_is_freed() {
    let module = parse(&[
        entry("take", &format!("{OWN} MALLOC %rd3, 20; st.global.u64 [%rd2], %rd3; st.u32 [%rd3+16], %r2;")),
        entry("add", &format!("{OWN} ld.global.u64 %rd3, [%rd2]; atom.add.u32 %r3, [%rd3+16], 5;")),
        entry(
            "give",
            &format!(
                "{OWN} ld.global.u64 %rd3, [%rd2]; ld.u32 %r3, [%rd3+16]; FREE %rd3; cvt.u64.u32 %rd4, %r3; st.global.u64 [%rd2], %rd4;"
            ),
        ),
    ]);
    for checks in [false, true] {
        let options = LaunchOptions { checks, ..LaunchOptions::default() };
        let emulator = device(8 << 20);
        let out = emulator.alloc(512).unwrap();
        let run = |name| launch(&emulator, &module, name, (2, 32), out, &options);
        run("take").unwrap();
        let given = longs(&emulator, out, 64);
        let mut sorted = given.clone();
        sorted.sort_unstable();
        assert!(sorted[0] != 0 && sorted.iter().all(|p| p.is_multiple_of(16)));
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 20 + 16), "{sorted:x?}");
        assert_eq!(emulator.memory_used(), 512);
        // As on a device the host cannot reach it.
        let error = emulator.read(given[3], &mut [0]).unwrap_err().to_string();
        assert!(error.contains("in the heap of kernels"), "{error}");
        assert!(emulator.free(given[3]).is_err());
        run("add").unwrap();
        run("give").unwrap();
        assert_eq!(longs(&emulator, out, 64), (0..64).map(|k| k + 5).collect::<Vec<u64>>());
        emulator.write(out, &given.iter().flat_map(|p| p.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        let error = run("add").unwrap_err();
        assert!(
            error.contains("inside the 20 bytes at") && error.contains("freed in an earlier launch"),
            "{error}"
        );
    }
}

#[test]
fn a_full_heap_gives_null() {
    let body = |size: u32| format!("{OWN} MALLOC %rd3, {size}; st.global.u64 [%rd2], %rd3;");
    let module = parse(&[
        entry("all", &body(100)),
        entry("large", &body(1001)),
        entry("endless", &format!("{OWN} MALLOC %rd3, 0xffffffffffffffff; st.global.u64 [%rd2], %rd3;")),
        entry("none", &body(0)),
        // Those that are null too.
        entry("free", &format!("{OWN} ld.global.u64 %rd3, [%rd2]; FREE %rd3;")),
    ]);
    let emulator = device(1000);
    let out = emulator.alloc(256).unwrap();
    let given = |name| {
        launch(&emulator, &module, name, (1, 32), out, &LaunchOptions::default()).unwrap();
        longs(&emulator, out, 32).iter().filter(|p| **p != 0).count()
    };
    assert_eq!((given("large"), given("endless")), (0, 0));
    // Eight times 112 bytes.
    assert_eq!(given("all"), 8);
    given("free");
    assert_eq!(given("all"), 8);
    given("free");
    assert_eq!(given("none"), 32);
    given("free");
}

/// What 128 threads of one block do under checks; `%rd2` is 16 bytes from `malloc` in thread 0.
fn run(body: &str, checks: bool, schedule: Schedule) -> Result<(), String> {
    let module = parse(&[entry("k", body)]);
    // Small enough for addresses to be given anew.
    let emulator = device(512);
    let out = emulator.alloc(4096).unwrap();
    emulator.fill(out, 0, 4096).unwrap();
    let options = LaunchOptions { checks, schedule, ..LaunchOptions::default() };
    launch(&emulator, &module, "k", (1, 128), out, &options)
}

/// `wrong` fails with a message that has all of `parts`, without checks too where `always`; `right` does not, in several orders.
fn pair(name: &str, always: bool, wrong: &str, right: &str, parts: &[&str]) {
    for checks in [true, !always] {
        let text = run(wrong, checks, Schedule::InOrder).err().unwrap_or_else(|| panic!("{name}: not found"));
        for part in parts.iter().chain(&["kernel `k`", "PTX line"]) {
            assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
        }
    }
    for schedule in [Schedule::InOrder, Schedule::Seeded(1), Schedule::Seeded(2), Schedule::Seeded(3)] {
        if let Err(error) = run(right, true, schedule) {
            panic!("{name}: the twin is accused: {error}");
        }
    }
}

/// Thread 0 alone goes on.
const ALONE: &str = "@!%p1 bra END; MALLOC %rd2, 16; st.u32 [%rd2], 7;";

#[test]
fn wrong_uses_of_the_heap_are_found_always() {
    let alone = |rest: &str| format!("{ALONE} {rest} END:");
    let given =
        ["the 16 bytes at 0x", "by `malloc`, given to warp 0, lane 0 at PTX line", "call.uni (r), malloc"];
    let freed = [
        "inside the 16 bytes at 0x",
        "by `malloc`, freed by warp 0, lane 0 at PTX line",
        "call.uni free, (a)",
    ];
    let with = |first: &[&'static str], rest: [&'static str; 3]| [first, &rest].concat();
    pair(
        "a read after the free",
        true,
        &alone("FREE %rd2; ld.u32 %r2, [%rd2];"),
        &alone("ld.u32 %r2, [%rd2]; FREE %rd2;"),
        &with(&["read of 4 bytes at generic address"], freed),
    );
    pair(
        "a write after the free",
        true,
        &alone("add.u64 %rd3, %rd2, 8; FREE %rd2; st.global.u32 [%rd3], 1;"),
        &alone("add.u64 %rd3, %rd2, 8; st.global.u32 [%rd3], 1; FREE %rd2;"),
        &with(&["write of 4 bytes at global address"], freed),
    );
    pair(
        "a double free",
        true,
        &alone("FREE %rd2; FREE %rd2;"),
        &alone("FREE %rd2; MALLOC %rd2, 16; FREE %rd2;"),
        &with(&["`free` of address 0x", "which `malloc` did not give"], freed),
    );
    pair(
        "a write past the end",
        true,
        &alone("st.v2.u32 [%rd2+16], {%r1, %r1};"),
        &alone("st.v2.u32 [%rd2+8], {%r1, %r1};"),
        &with(&["write of 8 bytes", ": 0 bytes past the end of"], given),
    );
    pair(
        "an atomic across the end",
        true,
        &alone("MALLOC %rd3, 12; atom.exch.b64 %rd4, [%rd3+8], 1; FREE %rd3;"),
        &alone("MALLOC %rd3, 16; atom.exch.b64 %rd4, [%rd3+8], 1; FREE %rd3;"),
        &["write of 8 bytes", "it begins 4 bytes before the end of the 12 bytes at 0x"],
    );
    pair(
        "a free of an address inside",
        true,
        &alone("add.u64 %rd3, %rd2, 8; FREE %rd3;"),
        &alone("add.u64 %rd3, %rd2, 0; FREE %rd3;"),
        &with(&["which is not where a piece begins: it begins 8 bytes before the end of"], given),
    );
    pair(
        "a free of memory of the host",
        true,
        &alone("FREE %rd1;"),
        &alone("FREE 0;"),
        &[
            "`free` of address 0x",
            "which `malloc` did not give: it begins 4096 bytes before the end of the allocation of 4096 bytes",
        ],
    );
}

#[test]
fn wrong_uses_of_the_heap_are_found_by_checks() {
    let alone = |rest: &str| format!("{ALONE} {rest} END:");
    pair(
        "a read of what nobody wrote",
        false,
        &alone("ld.u32 %r2, [%rd2+12];"),
        &alone("st.u32 [%rd2+12], 1; ld.u32 %r2, [%rd2+12];"),
        &["some were never written: 12 bytes into the allocation of 16 bytes at 0x"],
    );
    pair(
        "a read of what was written in an earlier life",
        false,
        // 35 pieces later the address is given anew.
        &alone(
            "FREE %rd2; mov.u32 %r3, 0; L: MALLOC %rd3, 16; st.u32 [%rd3+4], 1; FREE %rd3; add.u32 %r3, %r3, 1;
            setp.lt.u32 %p3, %r3, 100; @%p3 bra L; MALLOC %rd3, 16; ld.u32 %r2, [%rd3+4];",
        ),
        &alone(
            "FREE %rd2; mov.u32 %r3, 0; L: MALLOC %rd3, 16; st.u32 [%rd3+4], 1; ld.u32 %r2, [%rd3+4]; FREE %rd3; add.u32 %r3, %r3, 1;
            setp.lt.u32 %p3, %r3, 100; @%p3 bra L;",
        ),
        &["some were never written: 4 bytes into the allocation of 16 bytes"],
    );
    // Thread 0 hands its piece to warp 1, whose first thread frees it.
    let shared = |before: &str| {
        format!(
            "@!%p1 bra ALL; MALLOC %rd2, 16; st.shared.u64 [passed], %rd2; ALL: bar.sync 0; ld.shared.u64 %rd2, [passed];
            @%p1 st.u32 [%rd2+4], 1; {before} setp.ne.u32 %p3, %r1, 32; @%p3 bra END; FREE %rd2; END:"
        )
    };
    pair(
        "a free beside a write",
        false,
        &shared(""),
        &shared("bar.sync 0;"),
        &[
            "`free` of address 0x",
            "data race: write of 16 bytes at global address",
            "0 bytes into the allocation of 16 bytes",
            "not ordered after the write by warp 0, lane 0",
        ],
    );
    // Warps take, write and give back beside each other, each address many times.
    let all = "mov.u32 %r3, 0; L: and.b32 %r4, %r1, 31; setp.ne.u32 %p3, %r4, 0; @%p3 bra NEXT; MALLOC %rd2, 24; st.u64 [%rd2+16], %rd1;
        ld.u64 %rd3, [%rd2+16]; FREE %rd2; NEXT: add.u32 %r3, %r3, 1; setp.lt.u32 %p3, %r3, 60; @%p3 bra L;";
    for seed in 0..4 {
        run(all, true, Schedule::Seeded(seed)).unwrap();
    }
}

#[test]
fn functions_of_these_names_are_called_where_there_are_any() {
    let own = ".version 8.3\n.target sm_90a\n.address_size 64
        .func (.param .b64 r) malloc (.param .b64 a) { .reg .b64 %rd<3>; ld.param.u64 %rd1, [a]; add.u64 %rd1, %rd1, 1000; st.param.b64 [r], %rd1; ret; }\n"
        .to_string() + &entry("k", "MALLOC %rd3, 24; st.global.u64 [%rd1], %rd3;");
    let emulator = device(1000);
    let out = emulator.alloc(8).unwrap();
    launch(&emulator, &Module::parse(&own).unwrap(), "k", (1, 1), out, &LaunchOptions::default()).unwrap();
    assert_eq!(longs(&emulator, out, 1), [1024]);
    for bad in [
        "{ .param .b32 a; .param .b64 r; call.uni (r), malloc, (a); }",
        "{ .param .b64 a; call.uni malloc, (a); }",
        "{ .param .b64 a; .param .b64 r; call.uni (r), free, (a); }",
        "{ call.uni free; }",
    ] {
        let error = Module::parse(&(HEAD.to_string() + &entry("k", bad))).unwrap_err().to_string();
        assert!(error.contains("takes 8 bytes and gives"), "{bad}: {error}");
    }
}
