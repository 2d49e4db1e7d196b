//! Which modifiers an instruction may have together, and from which target on: `forms.txt`, a grammar in the manual's own notation.
//! What it does not have is refused before anything else looks at a statement.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Every form of every opcode, and the groups in which they are listed.
pub(super) struct Forms {
    /// Name and opcodes of each group, as the file has them.
    #[cfg_attr(not(test), allow(dead_code, reason = "for INSTRUCTIONS.md, which a test writes"))]
    pub groups: Vec<(&'static str, Vec<&'static str>)>,
    /// Name and text of each set.
    #[cfg_attr(not(test), allow(dead_code, reason = "for INSTRUCTIONS.md, which a test writes"))]
    pub sets: Vec<(&'static str, &'static str)>,
    pub of: HashMap<&'static str, Vec<Form>>,
}

/// A line of the file.
pub(super) struct Form {
    /// The line without its target.
    pub text: &'static str,
    pub target: Target,
    places: Vec<Place>,
}

/// A place for one modifier.
struct Place {
    optional: bool,
    /// It takes a type. Types come in the order of their places.
    is_type: bool,
    names: Vec<&'static str>,
}

/// The first target that has a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub capability: u32,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// This and all later ones.
    Later,
    /// This one of an architecture alone, such as `sm_90a`.
    Own,
    /// Those of an architecture from it on.
    LaterOwn,
}

impl Target {
    fn of(text: &str) -> Target {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let kind = match &text[digits.len()..] {
            "" => Kind::Later,
            "a" => Kind::Own,
            "a+" => Kind::LaterOwn,
            other => panic!("forms.txt: `{other}` is no kind of target"),
        };
        Target { capability: digits.parse().expect("forms.txt: a number"), kind }
    }

    /// Whether a module's `.target` has it; one that names no number has everything.
    pub(super) fn is_met_by(self, target: &str) -> bool {
        let Some(name) = target.strip_prefix("sm_") else { return true };
        let digits = name.trim_end_matches(|c: char| !c.is_ascii_digit());
        let Ok(capability) = digits.parse::<u32>() else { return true };
        match self.kind {
            Kind::Later => capability >= self.capability,
            Kind::Own => capability == self.capability && name.len() > digits.len(),
            Kind::LaterOwn => capability >= self.capability && name.len() > digits.len(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Target { capability, kind } = self;
        match kind {
            Kind::Later => write!(f, "sm_{capability}"),
            Kind::Own => write!(f, "sm_{capability}a"),
            Kind::LaterOwn => write!(f, "sm_{capability}a or a later one with such a letter"),
        }
    }
}

/// Whether a modifier is a type: a letter or two and digits, as `u32`, `f16x2`, `tf32`, `e4m3`.
fn is_type(name: &str) -> bool {
    let digits = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let letters = &name[..name.len() - digits.len()];
    let number = |c: char| c.is_ascii_digit() || c == 'x' || c == 'm';
    name == "pred" || ["u", "s", "b", "f", "bf", "tf", "e"].contains(&letters) && digits.chars().all(number)
}

impl Form {
    /// Whether these modifiers are those of the form.
    pub(super) fn takes(&self, modifiers: &[String]) -> bool {
        let mut used = vec![false; self.places.len()];
        for modifier in modifiers {
            let mut types_before = true;
            let place = self.places.iter().zip(&used).position(|(place, &used)| {
                let fits =
                    !used && place.names.contains(&modifier.as_str()) && (!place.is_type || types_before);
                types_before &= used || place.optional || !place.is_type;
                fits
            });
            match place {
                Some(place) => used[place] = true,
                None => return false,
            }
        }
        self.places.iter().zip(used).all(|(place, used)| used || place.optional)
    }

    fn has(&self, modifier: &str) -> bool {
        self.places.iter().any(|place| place.names.contains(&modifier))
    }
}

/// The file, read.
pub(super) static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let mut forms = Forms { groups: Vec::new(), sets: Vec::new(), of: HashMap::new() };
    let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in include_str!("forms.txt").lines() {
        if let Some(group) = line.strip_prefix("## ") {
            forms.groups.push((group, Vec::new()));
        } else if line.is_empty() || line.starts_with('#') {
            continue;
        } else if let Some((set, text)) = line.split_once(" = ") {
            forms.sets.push((set, text));
            names.insert(set, text.split('|').map(|name| &name[1..]).collect());
        } else {
            let (text, target) = line.split_once("  @").unwrap_or((line, "0"));
            let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
            let opcode = &text[..end];
            let form = Form { text, target: Target::of(target), places: places(&text[end..], &names) };
            forms.of.entry(opcode).or_default().push(form);
            let (_, opcodes) = forms.groups.last_mut().expect("forms.txt: a group before the forms");
            if !opcodes.contains(&opcode) {
                opcodes.push(opcode);
            }
        }
    }
    forms
});

/// The places of a form's modifiers.
fn places(mut text: &'static str, sets: &HashMap<&str, Vec<&'static str>>) -> Vec<Place> {
    let mut places = Vec::new();
    while let Some(first) = text.chars().next() {
        let end = match first {
            '{' => text.find('}').map(|n| n + 1),
            '(' => text.find(')').map(|n| n + 1),
            '<' => text.find('>').map(|n| n + 1),
            _ => text[1..].find(['.', '{', '(', '<']).map(|n| n + 1),
        };
        let (place, rest) = text.split_at(end.unwrap_or(text.len()));
        let mut names = Vec::new();
        for name in place.trim_matches(['{', '}', '(', ')']).split('|') {
            match name.strip_prefix('<') {
                Some(set) => names.extend(&sets[set.trim_end_matches('>')]),
                None => {
                    names.push(name.strip_prefix('.').expect("forms.txt: a modifier begins with a point"))
                }
            }
        }
        let is_type = names.iter().all(|name| is_type(name));
        places.push(Place { optional: first == '{', is_type, names });
        text = rest;
    }
    places
}

/// Whether there is such an opcode.
pub(super) fn knows(opcode: &str) -> bool {
    FORMS.of.contains_key(opcode)
}

/// Refuses what has a form, but with these operands only from a later target on.
pub(super) fn needs(capability: u32, what: &str, target: &str) -> Result<(), String> {
    let needed = Target { capability, kind: Kind::Later };
    if needed.is_met_by(target) {
        return Ok(());
    }
    Err(format!("{what} needs the target {needed}; the module's is {target}"))
}

/// How many forms an error names at most.
const NAMED: usize = 4;

/// Refuses modifiers that the opcode does not have together, and forms that the target does not have. An opcode that is not known is
/// somebody else's matter. `mnemonic` is the opcode with the modifiers.
pub(super) fn check(mnemonic: &str, opcode: &str, modifiers: &[String], target: &str) -> Result<(), String> {
    let Some(forms) = FORMS.of.get(opcode) else { return Ok(()) };
    let mut later = None;
    for form in forms.iter().filter(|form| form.takes(modifiers)) {
        if form.target.is_met_by(target) {
            return Ok(());
        }
        later = later.or(Some(form.target));
    }
    if let Some(needed) = later {
        return Err(format!("`{mnemonic}` needs the target {needed}; the module's is {target}"));
    }
    if let Some(unknown) = modifiers.iter().find(|m| !forms.iter().any(|form| form.has(m))) {
        return Err(format!("there is no `{mnemonic}`: `.{unknown}` is no modifier of `{opcode}`"));
    }
    // Those that have most of what was written.
    let mut near: Vec<_> =
        forms.iter().map(|form| (modifiers.iter().filter(|m| !form.has(m)).count(), form)).collect();
    near.sort_by_key(|(missing, _)| *missing);
    let near: Vec<_> = near.iter().take(NAMED).map(|(_, form)| format!("`{}`", form.text)).collect();
    let rest = if forms.len() > NAMED { " and others (INSTRUCTIONS.md)" } else { "" };
    Err(format!("there is no `{mnemonic}`; there is {}{rest}", near.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(mnemonic: &str, target: &str) -> Result<(), String> {
        let mut parts = mnemonic.split('.').map(String::from);
        let opcode = parts.next().unwrap();
        check(mnemonic, &opcode, &parts.collect::<Vec<_>>(), target)
    }

    #[test]
    fn modifiers_stand_together_as_the_manual_has_them() {
        for good in [
            "add.u32",
            "add.sat.s32",
            "add.rn.ftz.sat.f32",
            "add.ftz.rn.f32",
            "cvt.rn.f16.u8",
            "cvt.rzi.u8.f16",
            "cvt.rn.satfinite.relu.e4m3x2.f32",
            "ld.global.nc.L1::no_allocate.L2::128B.v4.f32",
            "ld.param.b64",
            "atom.relaxed.gpu.global.cas.b128",
            "setp.lt.and.f32",
            "mma.sync.aligned.m8n8k4.col.col.f32.f16.f16.f32",
            "bar.sync",
            "ret",
            "call.uni",
        ] {
            checked(good, "sm_90a").unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for (bad, part) in [
            ("add.foo.s32", "`.foo` is no modifier of `add`"),
            ("add.sat.u32", "there is no `add.sat.u32`; there is `add<int>`, `add.sat.s32`"),
            ("add.rn.rn.f32", "there is no"),
            ("add.ftz.f64", "there is no"),
            ("add", "there is no `add`"),
            ("cvt.rn.u8.f16", "there is no"),
            ("cvt.rzi.f16.u8", "there is no"),
            ("cvt.f16.f32", "there is no"),
            ("ld.nc.f32", "there is no"),
            ("ld.shared.L2::128B.f32", "there is no"),
            ("ld.relaxed.u32", "there is no"),
            ("atom.and.u32", "there is no"),
            ("redux.sync.add.b32", "there is no"),
            ("bar.sync.cta.u32", "there is no"),
        ] {
            let error = checked(bad, "sm_90a").unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
        // Somebody else says so.
        assert_eq!(checked("frobnicate.b32", "sm_90a"), Ok(()));
    }

    #[test]
    fn forms_have_their_targets() {
        for (mnemonic, target, needed) in [
            ("redux.sync.add.u32", "sm_75", Some("needs the target sm_80; the module's is sm_75")),
            ("redux.sync.add.u32", "sm_80", None),
            ("wgmma.fence.sync.aligned", "sm_90", Some("needs the target sm_90a;")),
            ("wgmma.fence.sync.aligned", "sm_90a", None),
            ("wgmma.fence.sync.aligned", "sm_100a", Some("needs the target sm_90a;")),
            ("setmaxnreg.inc.sync.aligned.u32", "sm_100a", None),
            ("setmaxnreg.inc.sync.aligned.u32", "sm_100", Some("sm_90a or a later one")),
            ("ld.global.v8.f32", "sm_90a", Some("sm_100")),
            ("ld.global.v8.f32", "sm_120", None),
            ("ld.global.v8.f32", "something", None),
        ] {
            match (checked(mnemonic, target), needed) {
                (Ok(()), None) => {}
                (Err(error), Some(needed)) => assert!(error.contains(needed), "{mnemonic}: {error}"),
                (result, needed) => panic!("{mnemonic} for {target}: {result:?}, not {needed:?}"),
            }
        }
    }
}
