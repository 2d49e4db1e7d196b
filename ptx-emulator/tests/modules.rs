//! What modules may look like beyond their instructions: initialisers, directives, functions that call themselves, printed text; and what
//! every error names.

mod common;
use common::{emulator, launch, module, words};
use ptx_emulator::{LaunchConfig, LaunchOptions, Module};

const HEAD: &str = ".version 8.3\n.target sm_90a\n.address_size 64\n";

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

/// Functions have one set of registers. An entry that reaches one that calls itself is refused; the others of the module run.
#[test]
fn functions_that_call_themselves_are_refused() {
    let text = format!(
        "{HEAD}.func f();\n.func g() {{ call f, (); ret; }}\n.func f() {{ call g, (); ret; }}
        .visible .entry bad() {{ call f, (); ret; }}\n.visible .entry good() {{ ret; }}"
    );
    let emulator = emulator();
    launch(&text, "good", 1, 32, 0, &emulator, &[]).unwrap();
    let error = launch(&text, "bad", 1, 32, 0, &emulator, &[]).unwrap_err().to_string();
    assert!(
        error.contains("launch of `bad`: `f` (PTX line 6) calls itself, which is not supported"),
        "{error}"
    );
    // By its address, which the module alone does not show.
    let text = format!(
        "{HEAD}.visible .func (.param .b32 r) f(.param .b32 n);\n.global .u64 table[1] = {{f}};
        .visible .func (.param .b32 r) f(.param .b32 n) {{ .reg .b32 %r<4>; .reg .b64 %rd<2>; .reg .pred %p<2>;
        ld.param.b32 %r1, [n]; st.param.b32 [r], 1; setp.le.s32 %p1, %r1, 1; @%p1 ret; ld.global.u64 %rd1, [table]; sub.u32 %r2, %r1, 1;
        {{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r2; P: .callprototype (.param .b32 _) _ (.param .b32 _); call (b), %rd1, (a), P;
        ld.param.b32 %r3, [b]; }} mul.lo.u32 %r3, %r3, %r1; st.param.b32 [r], %r3; ret; }}
        .visible .entry k(.param .u32 n) {{ .reg .b32 %r<4>; .reg .b64 %rd<2>; ld.param.u32 %r1, [n]; ld.global.u64 %rd1, [table];
        {{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; P: .callprototype (.param .b32 _) _ (.param .b32 _); call (b), %rd1, (a), P; }}
        ret; }}"
    );
    launch(&text, "k", 1, 32, 0, &emulator, &[&1u32.to_le_bytes()]).unwrap();
    let error = launch(&text, "k", 1, 32, 0, &emulator, &[&5u32.to_le_bytes()]).unwrap_err().to_string();
    assert!(
        error.contains("the call by address is recursive") && error.contains("call (b), %rd1"),
        "{error}"
    );
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
