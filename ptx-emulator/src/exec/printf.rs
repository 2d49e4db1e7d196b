//! C's `printf` for `vprintf` calls.

/// Formats; `argument(offset, size)` reads the packed arguments, `text(address)` a string.
pub(crate) fn format(
    format: &str,
    argument: impl Fn(u64, u64) -> u64,
    text: impl Fn(u64) -> String,
) -> String {
    let mut out = String::new();
    let mut offset = 0u64;
    let mut take = |size: u64| {
        offset = offset.next_multiple_of(size);
        offset += size;
        argument(offset - size, size)
    };
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(&c) = rest.peek() {
            if !(c.is_ascii_digit() || "-+ #.hljzt".contains(c)) {
                break;
            }
            spec.push(c);
            rest.next();
        }
        let size = if spec.contains(['l', 'j', 'z', 't']) { 8 } else { 4 };
        match rest.next() {
            Some('%') => out.push('%'),
            Some('d' | 'i') => {
                let bits = take(size);
                pad(
                    &mut out,
                    &spec,
                    &(if size == 8 { bits as i64 } else { i64::from(bits as i32) }).to_string(),
                );
            }
            Some('u') => pad(&mut out, &spec, &take(size).to_string()),
            Some('x') => pad(&mut out, &spec, &format!("{:x}", take(size))),
            Some('X') => pad(&mut out, &spec, &format!("{:X}", take(size))),
            Some('o') => pad(&mut out, &spec, &format!("{:o}", take(size))),
            Some('p') => pad(&mut out, &spec, &format!("{:#x}", take(8))),
            Some('c') => pad(&mut out, &spec, &char::from(take(4) as u8).to_string()),
            Some('s') => pad(&mut out, &spec, &text(take(8))),
            Some(kind @ ('f' | 'F' | 'e' | 'E' | 'g' | 'G')) => {
                let x = f64::from_bits(take(8));
                let precision = spec
                    .split_once('.')
                    .and_then(|(_, p)| p.trim_end_matches('l').parse().ok())
                    .unwrap_or(6usize)
                    .min(100);
                let shown = match kind {
                    'e' | 'E' => format!("{x:.precision$e}"),
                    'g' | 'G' => x.to_string(),
                    _ => format!("{x:.precision$}"),
                };
                pad(&mut out, &spec, &shown);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Applies a field's width.
fn pad(out: &mut String, spec: &str, shown: &str) {
    let digits: String =
        spec.trim_start_matches(['-', '+', ' ', '#', '0']).chars().take_while(char::is_ascii_digit).collect();
    let missing = digits.parse::<usize>().unwrap_or(0).min(1000).saturating_sub(shown.chars().count());
    let flags = spec.split(|c: char| c.is_ascii_digit() && c != '0' || c == '.').next().unwrap_or("");
    if flags.contains('-') {
        out.push_str(shown);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if flags.contains('0') {
        let (sign, number) = shown.strip_prefix('-').map_or(("", shown), |n| ("-", n));
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(number);
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(shown);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_are_read_at_their_alignment() {
        let bytes: Vec<u8> = [
            5i32.to_le_bytes().to_vec(),
            vec![0; 4],
            1.5f64.to_le_bytes().to_vec(),
            (-7i32).to_le_bytes().to_vec(),
        ]
        .concat();
        let read = |offset: u64, size: u64| {
            (0..size).map(|k| u64::from(bytes[(offset + k) as usize]) << (8 * k)).sum()
        };
        let shown = super::format("a=%3d b=%.2f c=%d%%", read, |_| String::new());
        assert_eq!(shown, "a=  5 b=1.50 c=-7%");
    }
}
