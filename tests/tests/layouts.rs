//! The order of the dimensions and the way that tensors lie in memory do not change the result.

use flash_attention::{Dtype, Layout};
use flash_attention_conformance::compare::{compare_all, first_difference};
use flash_attention_conformance::devices::devices;
use flash_attention_conformance::memory::Memory;
use flash_attention_conformance::problem::{Pattern, Problem, RESULTS};
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
) {
    let outside = Problem { key_heads, group, queries, keys, ..problem() };
    let inside = Problem { layout: Layout::Bshd, ..outside.clone() };
    let inputs = outside.inputs();
    for device in devices() {
        let expected = outside.run(device, &inputs).unwrap();
        assert_eq!(first_difference(&inside.run(device, &inputs).unwrap(), &expected), None, "on {device}");
    }
}

#[test]
fn a_batch_of_one_head_is_the_same_with_and_without_its_dimension() {
    for bias in [[false; 3], [true, false, false], [false, false, true], [true; 3]] {
        let with = Problem { key_heads: 1, bias: Some(bias), ..problem() };
        let inputs = with.inputs();
        for device in devices() {
            let expected = with.run(device, &inputs).unwrap();
            for short in [false, true] {
                let without = Problem { rank3: true, short, ..with.clone() };
                assert_eq!(
                    first_difference(&without.run(device, &inputs).unwrap(), &expected),
                    None,
                    "on {device}"
                );
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
    for device in devices() {
        let expected = plain.run(device, &inputs).unwrap();
        let mut ways = vec![Memory::HeadsInside, Memory::BatchInside];
        // Every offset and row stride within 16 bytes.
        ways.extend((0..8).map(|before| Memory::Columns { before, after: 3 * before % 8 }));
        ways.extend([(1, 0), (0, 2), (3, 1)].map(|(before, after)| Memory::Rows { before, after }));
        for way in ways {
            let mut moved = plain.clone();
            moved.memory[tensor] = way;
            let given = moved.run(device, &inputs).unwrap();
            let unaligned = tensor == 3 && matches!(way, Memory::Columns { .. });
            if unaligned {
                // A row of dout is summed in another order where it cannot be read sixteen bytes at a time.
                compare_all(&given, &expected, [0.0; RESULTS], dtype)
                    .unwrap_or_else(|message| panic!("{way:?} on {device}: {message}"));
            } else {
                assert_eq!(first_difference(&given, &expected), None, "{way:?} on {device}");
            }
        }
    }
}

#[test]
fn repeated_batch_entries_give_what_copies_give() {
    let shared = Problem { batch: 3, memory: [Memory::SharedBatch; 6], ..problem() };
    let copied = Problem { memory: [Memory::Contiguous; 6], ..shared.clone() };
    let inputs = shared.inputs();
    for device in devices() {
        let expected = copied.run(device, &inputs).unwrap();
        assert_eq!(first_difference(&shared.run(device, &inputs).unwrap(), &expected), None, "on {device}");
    }
}
