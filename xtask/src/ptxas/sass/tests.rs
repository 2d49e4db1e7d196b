use super::*;

/// A listing of one function `kernel` as cuobjdump writes it, with an address for each line.
fn listing(lines: &[&str]) -> String {
    let mut text = "\tcode for sm_80\n\t\tFunction : kernel\n\t.headerflags\t@\"EF_CUDA_SM80\"\n".to_string();
    for (i, line) in lines.iter().enumerate() {
        let address = i * 16;
        text +=
            &format!("        /*{address:04x}*/                   {line} ;      /* 0x0000a30000047ab9 */\n");
        text += "                                                             /* 0x000fe20000000800 */\n";
    }
    text
}

fn counted(lines: &[&str]) -> Loop {
    plain_loop(&listing(lines), "kernel").unwrap()
}

#[test]
fn an_instruction_has_a_guard_a_name_and_operands() {
    let text = listing(&["@!P0 BRA 0x10", "EXIT", "HMMA.16816.F32 R4, R8, R12, R4"]);
    let code = parse(&text, "kernel").unwrap();
    assert_eq!(code.len(), 3);
    assert_eq!((code[0].guard.as_str(), code[0].name.as_str(), code[0].target()), ("@!P0", "BRA", Some(16)));
    assert_eq!((code[1].address, code[1].name.as_str(), code[1].operands.as_str()), (16, "EXIT", ""));
    assert_eq!((code[2].stem(), code[2].target()), ("HMMA", None));
    assert!(parse(&text, "other").is_err());
}

#[test]
fn other_functions_of_the_listing_are_not_read() {
    let mut text = listing(&["HMMA.16816.F32 R4, R8, R12, R4", "BRA 0x0"]);
    text += "\t\tFunction : other\n        /*0020*/     BRA 0x0 ;\n";
    assert_eq!(plain_loop(&text, "kernel").unwrap().instructions, 2);
}

#[test]
fn the_plain_loop_is_the_shortest_with_products() {
    let lines = [
        "MOV R0, RZ",                     // 0x00
        "IADD3 R0, R0, 0x1, RZ",          // 0x10: a loop without products
        "@P0 BRA 0x10",                   // 0x20
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x30: a long loop
        "FADD R1, R1, R2",                // 0x40
        "FADD R1, R1, R2",                // 0x50
        "@P0 BRA 0x30",                   // 0x60
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x70: the plain one
        "FADD R1, R1, R2",                // 0x80
        "BRA.U UP0, 0x70",                // 0x90
        "EXIT",                           // 0xa0
    ];
    assert_eq!(
        counted(&lines),
        Loop { instructions: 3, products: 1, rescaled: None, foreign: BTreeMap::new() }
    );
}

#[test]
fn an_outer_loop_is_not_the_plain_one() {
    let lines = [
        "LDSM.16.M88.4 R8, [R2]",         // 0x00: for each head
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x10: for each block
        "@P1 BRA 0x10",                   // 0x20
        "@P0 BRA 0x0",                    // 0x30
        "EXIT",                           // 0x40
    ];
    assert_eq!(counted(&lines).instructions, 2);
}

/// A loop with a detour by way of 0x80.
fn with_detour(detour: &str) -> Loop {
    counted(&[
        "MOV R0, RZ",                     // 0x00
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x10: the loop
        "@P0 BRA 0x80",                   // 0x20: sometimes by way of 0x80
        "FADD R1, R1, R2",                // 0x30
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x40
        "@P1 CALL.REL.NOINC 0x70",        // 0x50: how it ends
        "BRA 0x10",                       // 0x60
        "EXIT",                           // 0x70
        detour,                           // 0x80
        "BRA 0x40",                       // 0x90
    ])
}

#[test]
fn a_round_takes_the_shortest_way() {
    assert_eq!(
        with_detour("FMUL R1, R1, R2"),
        Loop { instructions: 6, products: 2, rescaled: None, foreign: BTreeMap::new() }
    );
}

#[test]
fn a_round_does_all_the_work() {
    assert_eq!(with_detour("LDGSTS.E.BYPASS.128 [R1], [R2.64]").instructions, 7);
    let more = with_detour("HMMA.16816.F32 R4, R8, R12, R4");
    assert_eq!((more.instructions, more.products), (7, 3));
}

/// A loop in which a vote decides whether there are two more instructions, and another predicate about three.
fn with_vote(vote: &str, jump: &str) -> Loop {
    counted(&[
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x00
        vote,                             // 0x10
        "FADD R1, R1, R2",                // 0x20
        jump,                             // 0x30: over the next two
        "FMUL R4, R4, R3",                // 0x40
        "FMUL R5, R5, R3",                // 0x50
        "@!P1 BRA 0xa0",                  // 0x60: over the next three
        "FADD R1, R1, R2",                // 0x70
        "FADD R1, R1, R2",                // 0x80
        "FADD R1, R1, R2",                // 0x90
        "HMMA.16816.F32 R4, R8, R12, R4", // 0xa0
        "@P3 BRA 0x0",                    // 0xb0
        "EXIT",                           // 0xc0
    ])
}

#[test]
fn a_round_that_rescales_is_that_of_the_other_vote_alone() {
    for (vote, jump) in [("VOTE.ANY P0, P0", "@!P0 BRA 0x60"), ("VOTEU.ANY UP0, P2", "BRA.U !UP0, 0x60")] {
        let found = with_vote(vote, jump);
        assert_eq!((found.instructions, found.rescaled, found.products), (7, Some(9), 2), "{vote}");
        assert_eq!((found.others(), found.others_rescaled()), (250, Some(350)));
    }
}

#[test]
fn a_vote_that_decides_about_no_jump_leaves_one_ratio() {
    let found = with_vote("VOTE.ANY P2, P0", "@!P0 BRA 0x60");
    assert_eq!((found.instructions, found.others_rescaled()), (7, None));
}

#[test]
fn what_should_not_be_there_is_found_on_every_way() {
    let found = with_detour("STL [R1], R2");
    assert_eq!((found.instructions, found.foreign), (6, BTreeMap::from([("STL".to_string(), 1)])));
}

#[test]
fn a_loop_with_a_loop_inside_counts_whole() {
    let found = counted(&[
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x00
        "@P2 BRA 0x40",                   // 0x10
        "FADD R1, R1, R2",                // 0x20
        "@P0 BRA 0x20",                   // 0x30
        "@P1 BRA 0x0",                    // 0x40
        "EXIT",                           // 0x50
    ]);
    assert_eq!(found.instructions, 5);
}

#[test]
fn a_backward_jump_to_where_another_way_leads_is_no_loop() {
    let lines = [
        "@P0 BRA 0x40",                   // 0x00
        "FADD R1, R1, R2",                // 0x10
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x20: reached from 0x10 and from 0x40
        "EXIT",                           // 0x30
        "BRA 0x20",                       // 0x40
    ];
    let error = plain_loop(&listing(&lines), "kernel").unwrap_err();
    assert!(error.to_string().contains("no loop has matrix products"), "{error}");
}

#[test]
fn ways_of_parted_warps_are_not_counted() {
    let lines = [
        "HMMA.16816.F32 R4, R8, R12, R4", // 0x00
        "BRA.DIV UR4, 0x40",              // 0x10
        "@P0 BRA 0x0",                    // 0x20
        "EXIT",                           // 0x30
        "FADD R1, R1, R2",                // 0x40
        "BRA 0x20",                       // 0x50
    ];
    assert_eq!(counted(&lines).instructions, 3);
}

#[test]
fn foreign_instructions_are_named_and_fillers_are_not() {
    let lines = [
        "HMMA.16816.F32.BF16 R4, R8, R12, R4",
        "HMMA.1688.F32 R4, R8, R12, R4",
        "LDSM.16.MT88.4 R8, [R2]",
        "@!PT LDS RZ, [RZ]",
        "@P2 LDS.128 R8, [R2]",
        "LDGSTS.E.BYPASS.128 [R2], [R4.64]",
        "LDL.64 R8, [R1]",
        "STL [R1], R8",
        "STL [R1+0x4], R8",
        "@P0 BRA 0x0",
        "EXIT",
    ];
    let found = counted(&lines);
    let foreign = [("HMMA.1688.F32", 1), ("LDL.64", 1), ("LDS.128", 1), ("STL", 2)];
    assert_eq!(found.products, 1);
    assert_eq!(found.foreign, foreign.map(|(name, n)| (name.to_string(), n)).into());
}

#[test]
fn a_jump_to_an_address_in_a_register_is_an_error() {
    let lines = ["BRX R4 -0x10", "HMMA.16816.F32 R4, R8, R12, R4", "BRA 0x0"];
    let error = plain_loop(&listing(&lines), "kernel").unwrap_err();
    assert!(error.to_string().contains("BRX at 0x0"), "{error}");
    let error = plain_loop(&listing(&["BRA 0x8000"]), "kernel").unwrap_err();
    assert!(error.to_string().contains("unknown place"), "{error}");
}

#[test]
fn others_for_each_product_are_rounded_to_hundredths() {
    let others = |instructions| {
        Loop { instructions, rescaled: None, products: 256, foreign: BTreeMap::new() }.others()
    };
    // FlashAttention-2's forward of 128 columns: 894 instructions.
    assert_eq!(others(894), 249);
    assert_eq!([894, 895, 256].map(others), [249, 250, 0]);
}
