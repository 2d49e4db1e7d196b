//! What modules may look like beyond their instructions: initialisers, directives, printed text; and what
//! every error names.

mod common;
use common::{emulator, launch, module, words};
use ptx_emulator::{LaunchConfig, LaunchOptions, Module};

const HEAD: &str = ".version 8.3\n.target sm_90a\n.address_size 64\n";

#[test]
fn registers_that_have_no_room_are_refused_where_they_are_declared() {
    // 16 MiB are 65536 registers of 64 bits for 32 lanes.
    let body = |count: u32| (0..count).map(|k| format!("mov.u64 %big{k}, 0;\n")).collect::<String>();
    let text = |count| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() {{\n.reg .b32 %r<4>;\n.reg .b64 %big<70000>;\n{}ret; }}",
            body(count)
        )
    };
    let error = Module::parse(&text(65_600)).unwrap_err().to_string();
    assert_eq!(error, "line 6: more than 16 MiB of registers a warp in `.reg .b64 %big<70000>;`");
    assert!(Module::parse(&text(65_000)).is_ok());
}

/// As nvcc writes a packed structure that holds a pointer.
#[test]
fn an_address_may_be_initialised_byte_by_byte() {
    let bytes: Vec<_> =
        (0..8).map(|k| format!("0x{}(generic(numbers)+4)", "FF".to_string() + &"00".repeat(k))).collect();
    let text = format!(
        "{HEAD}.global .align 4 .u32 numbers[3] = {{5, 6, 7}};\n.global .align 1 .b8 packed[10] = {{1, {}, 2}};
        .visible .entry k(.param .u64 out) {{ .reg .b64 %rd<4>; .reg .b32 %r<8>; .reg .b16 %h<4>;
        ld.param.u64 %rd1, [out]; mov.u64 %rd2, 0; mov.u32 %r1, 8; mov.u64 %rd3, packed;
        L: cvt.u64.u32 %rd0, %r1; add.u64 %rd0, %rd0, %rd3; ld.global.u8 %rd0, [%rd0]; shl.b64 %rd2, %rd2, 8; or.b64 %rd2, %rd2, %rd0;
        sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra L;
        ld.global.u32 %r2, [%rd2]; st.global.u32 [%rd1], %r2; ld.global.u8 %r3, [packed+9]; st.global.u32 [%rd1+4], %r3; ret; }}",
        bytes.join(", ")
    )
    .replace(".reg .b32", ".reg .pred %p<2>; .reg .b32");
    let emulator = emulator();
    let out = emulator.alloc(8).unwrap();
    launch(&text, "k", 1, 1, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    let mut found = [0; 8];
    emulator.read(out, &mut found).unwrap();
    assert_eq!(found, [6, 0, 0, 0, 2, 0, 0, 0]);
    for bad in
        ["0(numbers)", "0xF0(numbers)", "0xFF0(numbers)", "0xFFFF(numbers)", "0xFF(nothing)", "0xFF(numbers"]
    {
        let text = format!(
            "{HEAD}.global .u32 numbers[3];\n.global .b8 packed[10] = {{{bad}}};\n.visible .entry k() {{ ret; }}"
        );
        assert!(Module::parse(&text).is_err(), "{bad}");
    }
}

#[test]
fn directives_may_share_a_line() {
    let text = ".version 8.0 .target sm_90, debug .address_size 64 .visible .entry k() { ret; }";
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((module.target(), module.entries().count()), ("sm_90", 1));
    let text = ".version 8.0\n.target sm_90,\n debug\n.address_size 64\n.visible .entry k() { ret; }";
    assert_eq!(Module::parse(text).unwrap_or_else(|e| panic!("{e}")).target(), "sm_90");
}

#[test]
fn printed_text_has_a_bound() {
    let text = format!(
        "{HEAD}.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
        .global .b8 format[7] = {{37, 49, 48, 48, 48, 100, 0}};
        .visible .entry k(.param .u32 times) {{ .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p<2>;
        .local .align 8 .b8 own[8]; ld.param.u32 %r1, [times]; mov.u64 %rd1, own; cvta.local.u64 %rd1, %rd1; st.local.u32 [own], 7;
        mov.u64 %rd2, format; cvta.global.u64 %rd2, %rd2;
        L: {{ .param .b64 f; st.param.b64 [f], %rd2; .param .b64 a; st.param.b64 [a], %rd1; .param .b32 r; call.uni (r), vprintf, (f, a); }}
        sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra L; ret; }}"
    );
    let emulator = emulator();
    let stats = launch(&text, "k", 1, 32, 0, &emulator, &[&2u32.to_le_bytes()]).unwrap();
    assert_eq!(stats.printed.len(), 64_000);
    let error = launch(&text, "k", 4, 32, 0, &emulator, &[&1000u32.to_le_bytes()]).unwrap_err().to_string();
    assert!(error.contains("the kernel prints more than 16777216 bytes"), "{error}");
}

#[test]
fn a_kernel_with_explicit_clusters_wants_one() {
    let module = Module::parse(&format!("{HEAD}.visible .entry k() .explicitcluster {{ ret; }}")).unwrap();
    let shape = LaunchConfig { grid: [2, 1, 1], block: [32, 1, 1], dynamic_shared_bytes: 0 };
    let launch = |cluster| {
        let options = LaunchOptions { cluster, ..LaunchOptions::default() };
        emulator().launch_with(&module, "k", shape, &[], &options)
    };
    let error = launch(None).unwrap_err().to_string();
    assert!(error.contains("no cluster is given, but the kernel is `.explicitcluster`"), "{error}");
    launch(Some([2, 1, 1])).unwrap();
}

/// Warp and lane are those of the flat thread.
#[test]
fn errors_name_warp_and_lane() {
    let text = module("").replace("ret;", "");
    let body = "mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; add.u32 %r3, %r1, %r2; setp.eq.u32 %p1, %r3, 10; setp.eq.and.u32 %p1, %r1, 5, %p1;
        @%p1 ld.global.u32 %r4, [8]; ret;";
    let module =
        Module::parse(&text.replace("\n\n}", &format!("\n{body}\n}}"))).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [1; 3], block: [8, 8, 1], dynamic_shared_bytes: 0 };
    let error = emulator().launch(&module, "k", shape, &[&0u64.to_le_bytes()]).unwrap_err().to_string();
    assert!(error.contains("block (0, 0, 0), thread (5, 5, 0) (warp 1, lane 13), PTX line"), "{error}");
    // Modifiers that do not exist are not passed over.
    let error = Module::parse(&common::module("mov.foo.u32 %r1, %r2; ret;")).unwrap_err().to_string();
    assert!(error.contains("`.foo` is no modifier of `mov`"), "{error}");
    assert_eq!(words("ret;", 1, 1, 1).unwrap(), [0]);
}

#[test]
fn functions_are_defined_once() {
    for (first, second) in [
        (".visible .entry k() { ret; }", ".visible .entry k() { exit; }"),
        (".func k() { ret; }", ".weak .func k() { ret; }"),
        (".func k() { ret; }", ".visible .entry k() { ret; }"),
    ] {
        let error = Module::parse(&format!("{HEAD}{first}\n{second}")).unwrap_err().to_string();
        assert!(error.contains("line 5: `k` is defined twice, first in PTX line 4"), "{error}");
    }
    // Declared as often as anybody likes.
    Module::parse(&format!("{HEAD}.func f();\n.func f();\n.func f() {{ ret; }}\n.func f();")).unwrap();
}

/// There is no other module that could have it.
#[test]
fn what_another_module_should_define_is_refused_where_it_is_used() {
    let uses = |body: &str| {
        Module::parse(&format!(
            "{HEAD}.extern .global .u32 there;\n.extern .func f();\n.visible .entry k() {{ .reg .b32 %r<4>; .reg .b64 %rd<4>; {body} ret; }}"
        ))
    };
    uses("").unwrap();
    for (body, part) in [
        (
            "ld.global.u32 %r1, [there];",
            "`there` is `.extern` (PTX line 4), and the module does not define it",
        ),
        ("mov.u64 %rd1, there;", "`there` is `.extern` (PTX line 4), and the module does not define it"),
        ("call f, ();", "there is no function `f` with a body to call"),
    ] {
        let error = uses(body).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("line 6: "), "{body}: {error}");
    }
    let text = format!("{HEAD}.extern .global .u32 there;\n.global .u64 table[1] = {{there}};");
    let error = Module::parse(&text).unwrap_err().to_string();
    assert!(error.contains("the initialiser names `there`, which the module does not define"), "{error}");
    // Declared and defined.
    let text = format!(
        "{HEAD}.extern .global .u32 here;\n.global .u32 here = 7;\n.visible .entry k(.param .u64 out) {{ .reg .b32 %r<4>; .reg .b64 %rd<4>;
        ld.param.u64 %rd1, [out]; ld.global.u32 %r1, [here]; st.global.u32 [%rd1], %r1; ret; }}"
    );
    let emulator = emulator();
    let out = emulator.alloc(4).unwrap();
    launch(&text, "k", 1, 1, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    let mut found = [0; 4];
    emulator.read(out, &mut found).unwrap();
    assert_eq!(found, [7, 0, 0, 0]);
}

#[test]
fn whether_a_cluster_was_asked_for_is_a_predicate() {
    let kernel = |directive: &str, body: &str| {
        format!(
            "{HEAD}.visible .entry k(.param .u64 out) {directive} {{ .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p<4>;
            ld.param.u64 %rd1, [out]; mov.u32 %r1, 1; mov.u32 %r2, 0;\n{body}\nst.global.u32 [%rd1], %r2; ret; }}"
        )
    };
    let emulator = emulator();
    let out = emulator.alloc(4).unwrap();
    let run = |directive: &str, body: &str, cluster| {
        let module = Module::parse(&kernel(directive, body)).unwrap_or_else(|e| panic!("{e}"));
        let options = LaunchOptions { cluster, ..LaunchOptions::default() };
        let shape = LaunchConfig { grid: [2, 1, 1], block: [32, 1, 1], dynamic_shared_bytes: 0 };
        emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).unwrap();
        let mut found = [0; 4];
        emulator.read(out, &mut found).unwrap();
        u32::from_le_bytes(found)
    };
    for body in
        ["mov.pred %p1, %is_explicit_cluster; @%p1 mov.u32 %r2, 1;", "@%is_explicit_cluster mov.u32 %r2, 1;"]
    {
        assert_eq!(run("", body, None), 0);
        assert_eq!(run("", body, Some([2, 1, 1])), 1);
        assert_eq!(run(".reqnctapercluster 2, 1, 1", body, None), 1);
        assert_eq!(run("", "selp.u32 %r2, 5, 6, %is_explicit_cluster;", None), 6);
    }
    let error = Module::parse(&kernel("", "mov.u32 %r2, %is_explicit_cluster;")).unwrap_err().to_string();
    assert!(error.contains("`%is_explicit_cluster` is a predicate"), "{error}");
}

/// As older compilers and people write functions.
#[test]
fn parameters_of_functions_may_be_registers() {
    let text = format!(
        "{HEAD}.func (.reg .b64 w) mix(.reg .u32 a, .reg .f32 x, .reg .u16 h, .reg .b64 q) {{
            .reg .u32 t; .reg .u64 u; .reg .pred p; cvt.rzi.u32.f32 t, x; cvt.u64.u32 u, t; add.u64 w, q, u; cvt.u64.u32 u, a; shl.b64 u, u, 8; add.u64 w, w, u;
            setp.eq.u16 p, h, 3; @p ret; cvt.u64.u16 u, h; shl.b64 u, u, 32; add.u64 w, w, u; ret; }}
        .func (.reg .u16 d) half(.reg .u16 s) {{ shr.u16 d, s, 1; }}
        .visible .entry k(.param .u64 out) {{ .reg .u32 %r<8>; .reg .u64 %rd<8>; .reg .u16 %h<4>; .reg .f32 %f<4>; .reg .pred %p<4>;
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 8; add.u64 %rd1, %rd1, %rd2; mov.f32 %f1, 0f40e00000; cvt.u16.u32 %h1, %r1;
        call (%rd3), mix, (%r1, %f1, %h1, 16); call (%h2), half, (%h1); cvt.u64.u16 %rd4, %h2; shl.b64 %rd4, %rd4, 48; add.u64 %rd3, %rd3, %rd4;
        st.global.u64 [%rd1], %rd3; ret; }}"
    );
    let emulator = emulator();
    let out = emulator.alloc(8 * 32).unwrap();
    launch(&text, "k", 1, 32, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    let mut found = [0; 8 * 32];
    emulator.read(out, &mut found).unwrap();
    for (lane, bytes) in (0u64..).zip(found.chunks_exact(8)) {
        let high = if lane == 3 { 0 } else { lane << 32 };
        let expected = 16 + 7 + (lane << 8) + high + ((lane / 2) << 48);
        assert_eq!(u64::from_le_bytes(bytes.try_into().unwrap()), expected, "lane {lane}");
    }
    let error = Module::parse(&format!(
        "{HEAD}.func f(.reg .pred p) {{ ret; }}\n.visible .entry k() {{ call f, (1); ret; }}"
    ));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`p`: registers of 8 to 64 bits can be parameters"), "{error}");
}
