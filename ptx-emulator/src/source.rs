//! Places in the source that a module was compiled from, as its `.file` and `.loc` directives name them.

/// Number of the file, line and column.
type Origin = (u32, u32, u32);

/// What the directives of a module say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    files: Vec<(u32, String)>,
    /// From which PTX line on which place holds; none from a function's beginning on.
    places: Vec<(u32, Option<Origin>)>,
}

impl Sources {
    /// Reads a PTX text. Directives that are not as the manual has them are passed over: nothing but messages depends on them.
    pub(crate) fn parse(text: &str) -> Sources {
        let mut all = Sources::default();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some(".file") => {
                    let index = words.next().and_then(|word| word.parse().ok());
                    let name = line.split('"').nth(1);
                    all.files.extend(index.zip(name.map(str::to_string)));
                }
                Some(".loc") => {
                    let mut next = || words.next()?.trim_end_matches(',').parse::<u32>().ok();
                    if let (Some(file), Some(line), Some(column)) = (next(), next(), next()) {
                        // Line 0 is no line of the source.
                        all.places.push((number, (line != 0).then_some((file, line, column))));
                    }
                }
                Some(".visible" | ".weak" | ".func" | ".entry") if !all.places.is_empty() => {
                    all.places.push((number, None));
                }
                _ => {}
            }
        }
        all
    }

    /// The place that a line of the PTX comes from: `FILE:LINE:COLUMN`.
    pub(crate) fn of(&self, ptx_line: u32) -> Option<String> {
        let after = self.places.partition_point(|(from, _)| *from <= ptx_line);
        let (file, line, column) = self.places[..after].last()?.1?;
        let (_, name) = self.files.iter().find(|(number, _)| *number == file)?;
        Some(format!("{name}:{line}:{column}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_until_the_next_or_the_end_of_its_function() {
        let text = ".version 8.0\n.file 1 \"a b.cu\"\n.visible .entry k()\n{\n.loc 1 7 3\nadd;\nmul;\n.loc 2 9 1, function_name $L, inlined_at 1 7 3\n\
                    sub;\n.loc 1 0 0\nret;\n}\n.func f()\n{\nret;\n}\n.file 2 \"c.h\", 1, 2\n";
        let sources = Sources::parse(text);
        let at = |line| sources.of(line);
        assert_eq!(at(4), None);
        assert_eq!(at(6).as_deref(), Some("a b.cu:7:3"));
        assert_eq!(at(7).as_deref(), Some("a b.cu:7:3"));
        assert_eq!(at(9).as_deref(), Some("c.h:9:1"));
        assert_eq!(at(11), None);
        assert_eq!(at(15), None);
        assert_eq!(Sources::parse(".loc\n.loc x 1 2\n.file\n.file 1\n").of(4), None);
    }
}
