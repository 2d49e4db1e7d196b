//! The order of the dimensions and the way that tensors lie in memory do not change the result.

use flash_attention::{Backend, Dtype, Layout};
use flash_attention_conformance::compare::{compare_all, first_difference};
use flash_attention_conformance::devices::{Target, targets};
use flash_attention_conformance::memory::Memory;
use flash_attention_conformance::problem::{Inputs, Pattern, Problem, RESULTS, Results};
use rstest::rstest;

/// Two heads, three keys and queries; with a mask and a bias for every score.
fn problem() -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        queries: 3,
        keys: 5,
        head_dim: 16,
        value_dim: 8,
        mask: Some(([false; 3], Pattern::Scattered)),
        bias: Some([false; 3]),
        seed: 3,
        ..Problem::default()
    }
}

fn run(problem: &Problem, target: &Target, inputs: &Inputs) -> Results {
    problem.run_on(target, inputs).unwrap_or_else(|error| panic!("on {target}: {error}"))
}

/// Sizes at which one order of the dimensions looks like the other: as many heads as queries or keys.
#[rstest]
#[case(2, 1, 3, 5)]
#[case(3, 1, 3, 5)]
#[case(3, 1, 5, 3)]
#[case(1, 3, 3, 3)]
#[case(1, 1, 1, 4)]
fn heads_inside_give_what_heads_outside_give(
    #[case] key_heads: usize,
    #[case] group: usize,
    #[case] queries: usize,
    #[case] keys: usize,
    #[values(Dtype::F32, Dtype::F16)] dtype: Dtype,
) {
    let outside = Problem { key_heads, group, queries, keys, dtype, ..problem() };
    let inside = Problem { layout: Layout::Bshd, ..outside.clone() };
    let inputs = outside.inputs();
    for target in outside.targets() {
        let expected = run(&outside, &target, &inputs);
        assert_eq!(first_difference(&run(&inside, &target, &inputs), &expected), None, "on {target}");
    }
}

#[rstest]
fn a_batch_of_one_head_is_the_same_with_and_without_its_dimension(
    #[values(Dtype::F32, Dtype::Bf16)] dtype: Dtype,
) {
    for bias in [[false; 3], [true, false, false], [false, false, true], [true; 3]] {
        let with = Problem { key_heads: 1, bias: Some(bias), dtype, ..problem() };
        let inputs = with.inputs();
        for target in with.targets() {
            let expected = run(&with, &target, &inputs);
            for short in [false, true] {
                let without = Problem { rank3: true, short, ..with.clone() };
                let given = run(&without, &target, &inputs);
                assert_eq!(first_difference(&given, &expected), None, "on {target}");
            }
        }
    }
}

#[rstest]
fn every_way_to_lie_in_memory_gives_the_same(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(0, 1, 2, 3, 4, 5)] tensor: usize,
) {
    let plain = Problem { dtype, queries: 40, keys: 70, head_dim: 48, value_dim: 24, ..problem() };
    let inputs = plain.inputs();
    for target in plain.targets() {
        let expected = run(&plain, &target, &inputs);
        let mut ways = vec![Memory::HeadsInside, Memory::BatchInside];
        // Every offset and row stride within 16 bytes.
        ways.extend((0..8).map(|before| Memory::Columns { before, after: 3 * before % 8 }));
        ways.extend([(1, 0), (0, 2), (3, 1)].map(|(before, after)| Memory::Rows { before, after }));
        for way in ways {
            let mut moved = plain.clone();
            moved.memory[tensor] = way;
            if target.backend == Backend::Flash && !moved.fits_tensor_cores() {
                left_to_efficient(&moved, &target, &inputs);
                continue;
            }
            let given = run(&moved, &target, &inputs);
            let unaligned = tensor == 3 && matches!(way, Memory::Columns { .. });
            if unaligned {
                // A row of dout is summed in another order where it cannot be read sixteen bytes at a time.
                compare_all(&given, &expected, [0.0; RESULTS], dtype)
                    .unwrap_or_else(|message| panic!("{way:?} on {target}: {message}"));
            } else {
                assert_eq!(first_difference(&given, &expected), None, "{way:?} on {target}");
            }
        }
    }
}

/// Rows that do not begin and end at multiples of 16 bytes: Flash refuses them in words, and `Auto` takes Efficient, which
/// gives the same as it gives where it is asked for.
fn left_to_efficient(problem: &Problem, flash: &Target, inputs: &Inputs) {
    let message = problem.run_on(flash, inputs).unwrap_err();
    for words in ["flash cannot run this: it copies 16 bytes at a time", "multiples of 16"] {
        assert!(message.contains(words), "'{words}' is not in: {message}");
    }
    let efficient = Target::new(&flash.device, Backend::Efficient);
    assert_eq!(problem.backend(&flash.device), Backend::Efficient);
    let by_auto = problem.run(&flash.device, inputs).unwrap();
    assert_eq!(first_difference(&by_auto, &run(problem, &efficient, inputs)), None, "on {efficient}");
}

#[rstest]
#[case::columns_of_q_and_k(20, 32)]
#[case::columns_of_v(32, 100)]
#[case::one_column(1, 1)]
fn rows_of_odd_pieces_are_left_to_efficient(
    #[case] head_dim: usize,
    #[case] value_dim: usize,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem { head_dim, value_dim, dtype, ..problem() };
    assert!(!problem.fits_tensor_cores());
    for flash in targets().into_iter().filter(|target| target.backend == Backend::Flash) {
        left_to_efficient(&problem, &flash, &problem.inputs());
    }
}

#[rstest]
fn repeated_batch_entries_give_what_copies_give(#[values(Dtype::F32, Dtype::F16)] dtype: Dtype) {
    let shared = Problem { batch: 3, memory: [Memory::SharedBatch; 6], dtype, ..problem() };
    let copied = Problem { memory: [Memory::Contiguous; 6], ..shared.clone() };
    let inputs = shared.inputs();
    for target in copied.targets() {
        let expected = run(&copied, &target, &inputs);
        assert_eq!(first_difference(&run(&shared, &target, &inputs), &expected), None, "on {target}");
    }
}
