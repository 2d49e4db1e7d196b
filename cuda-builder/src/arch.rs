//! The GPU generations that code can be made for.

/// What the PTX asks of a GPU, named as Rust-CUDA names it. PTX for one generation runs on all later ones, except for
/// those with a letter: `a` runs on that very generation only, `f` on its family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NvvmArch {
    /// Volta, and all that came after. The default.
    #[default]
    Compute70,
    /// Volta in Xavier.
    Compute72,
    /// Turing.
    Compute75,
    /// Ampere (A100).
    Compute80,
    /// Ampere (GeForce 30, A40).
    Compute86,
    /// Ampere in Orin.
    Compute87,
    /// Ada.
    Compute89,
    /// Hopper.
    Compute90,
    /// Hopper with `wgmma` and `setmaxnreg`.
    Compute90a,
    /// Blackwell (B200).
    Compute100,
    /// Blackwell (B200) with `tcgen05`.
    Compute100a,
    /// Blackwell (B300).
    Compute103,
    /// Blackwell (B300) with `tcgen05`.
    Compute103a,
    /// Blackwell (GeForce 50).
    Compute120,
    /// Blackwell (GeForce 50) with its own instructions.
    Compute120a,
}

impl NvvmArch {
    /// All of them, oldest first.
    pub const ALL: [Self; 15] = [
        Self::Compute70,
        Self::Compute72,
        Self::Compute75,
        Self::Compute80,
        Self::Compute86,
        Self::Compute87,
        Self::Compute89,
        Self::Compute90,
        Self::Compute90a,
        Self::Compute100,
        Self::Compute100a,
        Self::Compute103,
        Self::Compute103a,
        Self::Compute120,
        Self::Compute120a,
    ];

    /// The one that rustc calls by this name.
    pub fn from_target_cpu(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.target_cpu() == name)
    }

    /// What rustc's `-C target-cpu` calls it: `sm_90a`.
    pub fn target_cpu(self) -> &'static str {
        match self {
            Self::Compute70 => "sm_70",
            Self::Compute72 => "sm_72",
            Self::Compute75 => "sm_75",
            Self::Compute80 => "sm_80",
            Self::Compute86 => "sm_86",
            Self::Compute87 => "sm_87",
            Self::Compute89 => "sm_89",
            Self::Compute90 => "sm_90",
            Self::Compute90a => "sm_90a",
            Self::Compute100 => "sm_100",
            Self::Compute100a => "sm_100a",
            Self::Compute103 => "sm_103",
            Self::Compute103a => "sm_103a",
            Self::Compute120 => "sm_120",
            Self::Compute120a => "sm_120a",
        }
    }

    /// The number: 90 for `Compute90a`.
    pub fn capability_value(self) -> u32 {
        let digits: String = self.target_cpu().chars().filter(char::is_ascii_digit).collect();
        digits.parse().expect("every name has a number")
    }

    /// The generation: 9 for `Compute90a`.
    pub fn major_version(self) -> u32 {
        self.capability_value() / 10
    }

    /// The place within the generation: 6 for `Compute86`.
    pub fn minor_version(self) -> u32 {
        self.capability_value() % 10
    }

    /// The PTX version to ask for, as rustc's target feature, where LLVM's own choice is too old: `nanosleep` needs 6.3,
    /// cache hints need 7.4 (drivers from 470 on). Later generations start above that.
    pub(crate) fn ptx_feature(self) -> Option<&'static str> {
        (self.capability_value() < 89).then_some("+ptx74")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_names() {
        assert_eq!(NvvmArch::Compute90a.capability_value(), 90);
        assert_eq!((NvvmArch::Compute86.major_version(), NvvmArch::Compute86.minor_version()), (8, 6));
        assert_eq!((NvvmArch::Compute120a.major_version(), NvvmArch::Compute120a.minor_version()), (12, 0));
        assert_eq!(NvvmArch::default().target_cpu(), "sm_70");
        for arch in NvvmArch::ALL {
            assert_eq!(NvvmArch::from_target_cpu(arch.target_cpu()), Some(arch));
        }
    }
}
