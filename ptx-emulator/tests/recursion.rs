//! Functions that call themselves: each activation has its own registers, variables, parameters and results.

mod common;
use common::emulator;
use ptx_emulator::{LaunchConfig, LaunchOptions, LaunchStats, Module, Schedule};

/// A module of `functions` and an entry `k` of so many threads, each of which calls `f` with its index and writes the result, both of 64
/// bits. Gives the results.
fn run(functions: &str, threads: u32) -> Result<Vec<u64>, String> {
    let options = LaunchOptions { checks: true, ..LaunchOptions::default() };
    run_with(functions, threads, &options).map(|(found, _)| found)
}

fn run_with(
    functions: &str,
    threads: u32,
    options: &LaunchOptions,
) -> Result<(Vec<u64>, LaunchStats), String> {
    let text = format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n{functions}
        .visible .entry k(.param .u64 out) {{ .reg .b32 %i; .reg .b64 %o, %n, %r;
        ld.param.u64 %o, [out]; mov.u32 %i, %tid.x; cvt.u64.u32 %n, %i; mad.wide.u32 %o, %i, 8, %o;
        {{ .param .b64 a; .param .b64 b; st.param.b64 [a], %n; call (b), f, (a); ld.param.b64 %r, [b]; }}
        st.global.u64 [%o], %r; ret; }}"
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let emulator = emulator();
    let bytes = 8 * u64::from(threads);
    let out = emulator.alloc(bytes).unwrap();
    emulator.fill(out, 0xff, bytes).unwrap();
    let shape = LaunchConfig { grid: [1; 3], block: [threads, 1, 1], dynamic_shared_bytes: 0 };
    let stats = emulator
        .launch_with(&module, "k", shape, &[&out.to_le_bytes()], options)
        .map_err(|e| e.to_string())?;
    let mut found = vec![0; bytes as usize];
    emulator.read(out, &mut found).unwrap();
    Ok((found.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).collect(), stats))
}

/// `n` is read again, and a predicate used, after the inner activations have had theirs.
const FACTORIAL: &str = ".func (.param .b64 r) f(.param .b64 n) { .reg .b64 %a<4>; .reg .pred %p;
    ld.param.b64 %a0, [n]; setp.le.u64 %p, %a0, 1; st.param.b64 [r], 1; @%p ret;
    sub.u64 %a1, %a0, 1;
    { .param .b64 x; .param .b64 y; st.param.b64 [x], %a1; call (y), f, (x); ld.param.b64 %a2, [y]; }
    ld.param.b64 %a3, [n]; @!%p mul.lo.u64 %a2, %a2, %a3; st.param.b64 [r], %a2; ret; }";

fn factorial(n: u64) -> u64 {
    (1..=n).product()
}

#[test]
fn lanes_of_different_depth_each_have_their_factorial() {
    // Up to 20! fit in 64 bits.
    assert_eq!(run(FACTORIAL, 21).unwrap(), (0..21).map(factorial).collect::<Vec<_>>());
    for seed in 0..5 {
        let options = LaunchOptions { schedule: Schedule::Seeded(seed), ..LaunchOptions::default() };
        let (found, _) = run_with(FACTORIAL, 21, &options).unwrap();
        assert_eq!(found[20], 2_432_902_008_176_640_000, "seed {seed}");
    }
}

#[test]
fn activations_are_no_instructions() {
    // The entry has 9 instructions. An activation that ends the recursion has 4, any other 4, 1, 3 of the call and 4; of 3! there are two
    // of these.
    let (_, stats) = run_with(FACTORIAL, 4, &LaunchOptions::default()).unwrap();
    let of = |n: u64| 9 + 4 + 12 * n.saturating_sub(1);
    assert_eq!(stats.thread_instructions, (0..4).map(of).sum::<u64>());
}

#[test]
fn a_function_calls_itself_twice() {
    // Fibonacci's numbers: the first result lives over the second call.
    let text = ".func (.param .b64 r) f(.param .b64 n) { .reg .b64 %a, %x, %y; .reg .pred %p;
        ld.param.b64 %a, [n]; setp.lt.u64 %p, %a, 2; @%p bra LOW;
        { .param .b64 p; .param .b64 q; sub.u64 %x, %a, 1; st.param.b64 [p], %x; call (q), f, (p); ld.param.b64 %x, [q]; }
        { .param .b64 p; .param .b64 q; sub.u64 %y, %a, 2; st.param.b64 [p], %y; call (q), f, (p); ld.param.b64 %y, [q]; }
        add.u64 %a, %x, %y; LOW: st.param.b64 [r], %a; ret; }";
    let mut fibonacci = vec![0, 1];
    (2..16).for_each(|n| fibonacci.push(fibonacci[n - 1] + fibonacci[n - 2]));
    assert_eq!(run(text, 16).unwrap(), fibonacci);
    // Ackermann's function, of which the argument is a call: A(2, n) is 2 n + 3.
    let text = ".func (.param .b64 r) g(.param .b64 m, .param .b64 n) { .reg .b64 %m, %n, %t; .reg .pred %p;
        .param .b64 a, b, c; ld.param.b64 %m, [m]; ld.param.b64 %n, [n];
        setp.eq.u64 %p, %m, 0; @%p bra ZERO; setp.eq.u64 %p, %n, 0; mov.b64 %t, 1; @%p bra OUTER;
        sub.u64 %n, %n, 1; st.param.b64 [a], %m; st.param.b64 [b], %n; call (c), g, (a, b); ld.param.b64 %t, [c];
        OUTER: sub.u64 %m, %m, 1; st.param.b64 [a], %m; st.param.b64 [b], %t; call (c), g, (a, b); ld.param.b64 %t, [c];
        st.param.b64 [r], %t; ret; ZERO: add.u64 %n, %n, 1; st.param.b64 [r], %n; ret; }
        .func (.param .b64 r) f(.param .b64 n) { .reg .b64 %n; .param .b64 a, b, c; ld.param.b64 %n, [n]; st.param.b64 [a], 2;
        st.param.b64 [b], %n; call (c), g, (a, b); ld.param.b64 %n, [c]; st.param.b64 [r], %n; ret; }";
    assert_eq!(run(text, 12).unwrap(), (0..12).map(|n| 2 * n + 3).collect::<Vec<_>>());
}

#[test]
fn functions_call_each_other_under_guards() {
    // 1 for even numbers. Lanes that do not call keep what they have; parameters and results are registers.
    let text = ".func (.reg .b64 r) odd(.reg .b64 n);
        .func (.reg .b64 r) even(.reg .b64 n) { .reg .pred %p; .reg .b64 %m; setp.ne.u64 %p, n, 0; mov.b64 r, 1; sub.u64 %m, n, 1;
        @%p call (r), odd, (%m); ret; }
        .func (.reg .b64 r) odd(.reg .b64 n) { .reg .pred %p; .reg .b64 %m; setp.eq.u64 %p, n, 0; mov.b64 r, 0; sub.u64 %m, n, 1;
        @!%p call (r), even, (%m); ret; }
        .func (.param .b64 r) f(.param .b64 n) { .reg .b64 %n, %r; ld.param.b64 %n, [n]; call (%r), even, (%n);
        st.param.b64 [r], %r; ret; }";
    assert_eq!(run(text, 32).unwrap(), (0..32).map(|n| u64::from(n % 2 == 0)).collect::<Vec<_>>());
}

#[test]
fn addresses_of_variables_outside_stay_good() {
    // Each activation adds its own variable to the one of its caller: T(n) = n + T(n - 1), T(0) = 100.
    let text = ".func g(.param .b64 p, .param .b64 n) { .local .align 64 .b64 own[3]; .reg .b64 %p, %n, %o, %m, %t; .reg .pred %q;
        ld.param.b64 %p, [p]; ld.param.b64 %n, [n]; st.local.b64 [own+8], %n; mov.u64 %o, own; cvta.local.u64 %o, %o;
        and.b64 %t, %o, 63; add.u64 %o, %o, 8; setp.eq.u64 %q, %n, 0; @%q bra LAST; sub.u64 %m, %n, 1;
        { .param .b64 a, b; st.param.b64 [a], %o; st.param.b64 [b], %m; call g, (a, b); } bra ADD;
        LAST: ld.u64 %m, [%p]; add.u64 %m, %m, 100; st.u64 [%p], %m;
        ADD: ld.u64 %m, [%p]; ld.local.u64 %n, [own+8]; add.u64 %m, %m, %n; add.u64 %m, %m, %t; st.u64 [%p], %m; ret; }
        .func (.param .b64 r) f(.param .b64 n) { .local .align 8 .b64 sum; .reg .b64 %s, %n; ld.param.b64 %n, [n]; mov.u64 %s, sum;
        cvta.local.u64 %s, %s; st.local.b64 [sum], 0; { .param .b64 a, b; st.param.b64 [a], %s; st.param.b64 [b], %n; call g, (a, b); }
        ld.local.b64 %n, [sum]; st.param.b64 [r], %n; ret; }";
    assert_eq!(run(text, 32).unwrap(), (0..32).map(|n| 100 + n * (n + 1) / 2).collect::<Vec<_>>());
}

#[test]
fn registers_of_every_width_and_memory_from_the_stack_live_over_a_call() {
    // Each activation has n in registers of 16, 32, 64 and 128 bits, in a predicate whether it is odd, and in memory that it takes.
    let text = ".func (.param .b64 r) f(.param .b64 n) { .reg .b16 %h; .reg .b32 %w; .reg .f64 %d; .reg .b64 %l, %m, %s, %t; .reg .b128 %q;
        .reg .pred %p, %z; .param .b64 a, b;
        ld.param.b64 %l, [n]; cvt.u16.u64 %h, %l; cvt.u32.u64 %w, %l; cvt.rn.f64.u64 %d, %l; mov.b128 %q, {%l, %l};
        and.b64 %t, %l, 1; setp.eq.u64 %p, %t, 1; alloca.u64 %s, 64, 16; st.local.b64 [%s+56], %l;
        setp.eq.u64 %z, %l, 0; mov.b64 %m, 0; @%z bra DONE; sub.u64 %m, %l, 1; st.param.b64 [a], %m; call (b), f, (a); ld.param.b64 %m, [b];
        DONE: cvt.u64.u16 %t, %h; add.u64 %m, %m, %t; cvt.u64.u32 %t, %w; add.u64 %m, %m, %t; cvt.rzi.u64.f64 %t, %d; add.u64 %m, %m, %t;
        add.u64 %m, %m, %l; mov.b128 {%l, %t}, %q; add.u64 %m, %m, %l; add.u64 %m, %m, %t; ld.local.b64 %t, [%s+56]; add.u64 %m, %m, %t;
        @%p add.u64 %m, %m, 1000; st.param.b64 [r], %m; ret; }";
    // Seven times the sum of 1 to n, and 1000 for each odd one.
    let expected = |n: u64| 7 * n * (n + 1) / 2 + 1000 * n.div_ceil(2);
    assert_eq!(run(text, 40).unwrap(), (0..40).map(expected).collect::<Vec<_>>());
}

/// As `FACTORIAL`, with the call by an address from a table.
fn by_address(prototype: &str, result: &str) -> String {
    format!(
        ".func (.param .b64 r) f(.param .b64 n);\n.global .u64 table[1] = {{f}};
        .func (.param .b64 r) f(.param .b64 n) {{ .reg .b64 %a<4>; .reg .pred %p;
        ld.param.b64 %a0, [n]; setp.le.u64 %p, %a0, 1; st.param.b64 [r], 1; @%p ret; ld.global.u64 %a3, [table]; sub.u64 %a1, %a0, 1;
        {{ .param .b64 x, z; .param .b64 y; st.param.b64 [x], %a1; st.param.b64 [z], 0; P: .callprototype (.param .b64 _) _ ({prototype});
        call (y), %a3, {result}, P; ld.param.b64 %a2, [y]; }}
        mul.lo.u64 %a2, %a2, %a0; st.param.b64 [r], %a2; ret; }}"
    )
}

#[test]
fn calls_by_address_come_back_to_the_function_they_are_in() {
    let found = run(&by_address(".param .b64 _", "(x)"), 21).unwrap();
    assert_eq!(found, (0..21).map(factorial).collect::<Vec<_>>());
    // A call that no such function can take.
    let wrong = by_address(".param .b64 _, .param .b64 _", "(x, z)");
    let error = run(&wrong, 3).unwrap_err();
    assert!(error.contains("comes back to a function that it is in, which has other parameters"), "{error}");
    assert!(error.contains("call (y), %a3"), "{error}");
}

#[test]
fn recursion_without_an_end_is_an_error() {
    // 4 bytes for the top of the stack, 8 and 4 for the registers of an activation itself: 4096 times 16 are its 64 KiB.
    let bare = ".func g() { call g; ret; }
        .func (.param .b64 r) f(.param .b64 n) { st.param.b64 [r], 0; call g; ret; }";
    let error = run(bare, 3).unwrap_err();
    assert!(
        error.contains("`g` calls itself too deep: no room for 16 bytes of its activation 4097, the stack of the thread has 0 left"),
        "{error}"
    );
    // `f`'s has 56 bytes of variables at multiples of 16: its parameter, its result, and those of its call. With the top of the stack, its
    // base and depth, four registers of 64 bits and a predicate these are 108 bytes, one after 112: 585 of them are 65520.
    let endless = FACTORIAL.replace("@%p ret;", "");
    let error = run(&endless, 1).unwrap_err();
    assert!(
        error.contains("`f` calls itself too deep: no room for 108 bytes of its activation 586"),
        "{error}"
    );
    assert!(error.contains("has 20 left") && error.contains("line 4"), "{error}");
}

#[test]
fn lanes_that_end_inside_do_not_keep_the_others() {
    // Lanes of odd index exit in their innermost activation.
    let text = FACTORIAL.replace(
        "@%p ret;",
        "{ .reg .b32 %t; .reg .pred %o; mov.u32 %t, %tid.x; and.b32 %t, %t, 1; setp.eq.and.u32 %o, %t, 1, %p; @%o exit; } @%p ret;",
    );
    let expected: Vec<u64> = (0..20).map(|n| if n % 2 == 1 { u64::MAX } else { factorial(n) }).collect();
    assert_eq!(run(&text, 20).unwrap(), expected);
}

#[test]
fn variables_of_each_activation_begin_unwritten() {
    // The last activation writes its variable, which lies where that of the second call will.
    let text = |first: &str| {
        format!(
            ".func (.param .b64 r) g(.param .b64 n) {{ .local .b64 own; .reg .b64 %n; .reg .pred %p; .param .b64 a, b;
            ld.param.b64 %n, [n]; setp.eq.u64 %p, %n, 0; @%p bra READ; st.local.b64 [own], %n; sub.u64 %n, %n, 1; st.param.b64 [a], %n;
            call (b), g, (a); READ: {first} ld.local.b64 %n, [own]; st.param.b64 [r], %n; ret; }}
            .func (.param .b64 r) f(.param .b64 n) {{ .reg .b64 %n; .param .b64 a, b; st.param.b64 [a], 1;
            call (b), g, (a); ld.param.b64 %n, [b]; st.param.b64 [r], %n; ret; }}"
        )
    };
    let error = run(&text(""), 2).unwrap_err();
    assert!(error.contains("read of 8 bytes at local address") && error.contains("never written"), "{error}");
    assert_eq!(run(&text("@%p st.local.b64 [own], 5;"), 2).unwrap(), [1, 1]);
    // Not what an activation before it at the same place has written.
    let text = text("@%p st.local.b64 [own], 5;").replace(
        "st.param.b64 [a], 1;",
        "st.param.b64 [a], 1; call (b), g, (a); call (b), h, (a); st.param.b64 [a], 1;",
    );
    let h = ".func (.param .b64 r) h(.param .b64 n) { .local .b64 own; .reg .b64 %n; .reg .pred %p; .param .b64 a, b; HERE
        ld.local.b64 %n, [own]; st.param.b64 [r], %n; ld.param.b64 %n, [n]; setp.eq.u64 %p, %n, 5; st.param.b64 [a], 5;
        @%p call (b), h, (a); ret; }\n";
    let error = run(&(h.replace("HERE", "") + &text), 2).unwrap_err();
    assert!(error.contains("never written") && error.contains("ld.local.b64 %n, [own]"), "{error}");
    assert_eq!(run(&(h.replace("HERE", "st.local.b64 [own], 0;") + &text), 2).unwrap(), [1, 1]);
}

#[test]
fn each_activation_prints_its_own() {
    let text = ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
        .global .b8 format[4] = {37, 100, 32, 0};
        .func (.param .b64 r) f(.param .b64 n) { .local .align 8 .b8 own[8]; .reg .b64 %n, %o, %t; .reg .pred %p; .reg .b32 %c;
        ld.param.b64 %n, [n]; st.local.u64 [own], %n; mov.u64 %o, own; cvta.local.u64 %o, %o; setp.eq.u64 %p, %n, 0; @%p bra PRINT;
        { .param .b64 x, y; sub.u64 %t, %n, 1; st.param.b64 [x], %t; call (y), f, (x); }
        PRINT: mov.u64 %t, format; cvta.global.u64 %t, %t;
        { .param .b64 a, b; .param .b32 c; st.param.b64 [a], %t; st.param.b64 [b], %o; call.uni (c), vprintf, (a, b); ld.param.b32 %c, [c]; }
        cvt.u64.u32 %t, %c; st.param.b64 [r], %t; ret; }";
    let (found, stats) = run_with(text, 3, &LaunchOptions::default()).unwrap();
    // One argument was printed by each.
    assert_eq!(found, [1, 1, 1]);
    let mut printed: Vec<&str> = stats.printed.split_whitespace().collect();
    printed.sort_unstable();
    assert_eq!(printed, ["0", "0", "0", "1", "1", "2"]);
}

#[test]
fn stores_past_a_variable_into_what_is_kept_are_found() {
    // The parameter lies at 0, the variable at 16, the inner call's parameter at 32, what is kept at 40: the stack's top, then 8 bytes of the
    // outer activation's base.
    let text = |store: &str| {
        format!(
            ".func g(.param .b64 n) {{ .local .align 16 .b32 own[4]; .reg .b64 %n; .reg .pred %p; ld.param.b64 %n, [n];
            setp.eq.u64 %p, %n, 0; @%p bra LAST; {{ .param .b64 x; st.param.b64 [x], 0; call g, (x); }} ret; LAST: {store} ret; }}
            .func (.param .b64 r) f(.param .b64 n) {{ .param .b64 x; st.param.b64 [x], 1; call g, (x); st.param.b64 [r], 3; ret; }}"
        )
    };
    assert_eq!(run(&text("st.local.b32 [own+12], 7;"), 2).unwrap(), [3, 3]);
    for store in ["st.local.b32 [own+24], 7;", "st.local.b32 [own+28], -1; st.local.b32 [own+32], -1;"] {
        let error = run(&text(store), 2).unwrap_err();
        assert!(
            error.contains("`g` cannot return: what it keeps on the stack has been overwritten"),
            "{error}"
        );
    }
}
