#!/bin/sh
# Runs every test program of this package and prints a summary. Arguments are handed to each: a filter, or options as of `cargo test`.
# Needs no Rust; with an NVIDIA driver the tests run on the GPU too. Ends with 0 if all passed, else 1.
here=$(cd "$(dirname "$0")" && pwd)
cd "$here" || exit 1
# Where the tests look for cases.
FLASH_ATTENTION_EXAMPLES=${FLASH_ATTENTION_EXAMPLES:-$here/examples}
FLASH_ATTENTION_GOLDEN=${FLASH_ATTENTION_GOLDEN:-$here/golden}
export FLASH_ATTENTION_EXAMPLES FLASH_ATTENTION_GOLDEN
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
good=0
failed=

# Runs one program and shows its last line; all of it where it fails.
try() {
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        good=$((good + 1))
        # What was skipped, and on which devices it ran, is said once a program.
        grep -E '^conformance: ' "$log" | sort -u | sed "s/^/    /"
        echo "$name: $(grep -E '^test result:|^self-test:' "$log" | tail -n 1)"
    else
        failed="$failed $name"
        cat "$log"
        echo "$name: FAILED"
    fi
}

"$here/bin/sdpa" devices
for program in "$here"/tests/*; do
    try "$(basename "$program")" "$program" "$@"
done
if command -v python3 >/dev/null 2>&1; then
    try compare_torch "$here/benches/compare_torch.py" --self-test
else
    echo "compare_torch: skipped, because python3 is not installed"
fi
if [ -n "$failed" ]; then
    echo "$good programs passed; FAILED:$failed"
    exit 1
fi
echo "all $good programs passed"
