//! Which extensions a hart has: the properties of `-cpu rv64,...` and the names that the device tree gives.

/// The extensions that may be switched off. RV64IMAFD, Zicsr, Zifencei and Zicntr are always there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extensions {
    /// Compressed instructions. Without them instructions are aligned to four bytes.
    pub c: bool,
    /// Address generation (`sh1add`, `add.uw`, ...).
    pub zba: bool,
    /// Basic bit manipulation (`clz`, `rev8`, `min`, ...).
    pub zbb: bool,
    /// Single-bit instructions (`bset`, `bext`, ...).
    pub zbs: bool,
    /// `stimecmp`.
    pub sstc: bool,
    /// Four-level page tables beside the three-level ones.
    pub sv48: bool,
}

/// A property of `-cpu` that cannot be set so.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExtensionError {
    /// No such property.
    #[error("Property 'rv64-riscv-cpu.{0}' not found")]
    Unknown(String),
    /// The extension cannot be switched off.
    #[error("extension '{0}' cannot be disabled")]
    Required(String),
}

impl Default for Extensions {
    fn default() -> Self {
        Self::ALL
    }
}

impl Extensions {
    /// Everything that the hart implements.
    pub const ALL: Self = Self { c: true, zba: true, zbb: true, zbs: true, sstc: true, sv48: true };

    /// Sets the property `name` of `-cpu rv64`.
    pub fn set(&mut self, name: &str, on: bool) -> Result<(), ExtensionError> {
        let field = match name {
            "c" => &mut self.c,
            "zba" => &mut self.zba,
            "zbb" => &mut self.zbb,
            "zbs" => &mut self.zbs,
            "sstc" => &mut self.sstc,
            "sv48" => &mut self.sv48,
            "g" | "i" | "m" | "a" | "f" | "d" | "s" | "u" | "zicsr" | "zifencei" | "zicntr" | "sv39"
            | "mmu" | "pmp" => {
                return if on { Ok(()) } else { Err(ExtensionError::Required(name.to_owned())) };
            }
            _ => return Err(ExtensionError::Unknown(name.to_owned())),
        };
        *field = on;
        Ok(())
    }

    /// The names for the device tree's `riscv,isa-extensions`, in canonical order.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["i", "m", "a", "f", "d"];
        let optional: [(&str, bool); 8] = [
            ("c", self.c),
            ("zicntr", true),
            ("zicsr", true),
            ("zifencei", true),
            ("zba", self.zba),
            ("zbb", self.zbb),
            ("zbs", self.zbs),
            ("sstc", self.sstc),
        ];
        names.extend(optional.iter().filter(|(_, on)| *on).map(|(name, _)| *name));
        names
    }

    /// The string for the device tree's `riscv,isa`: `rv64imafdc_zicntr_zicsr_...`.
    pub fn isa_string(&self) -> String {
        let mut isa = String::from("rv64");
        for name in self.names() {
            if name.len() > 1 {
                isa.push('_');
            }
            isa.push_str(name);
        }
        isa
    }

    /// The device tree's `mmu-type`.
    pub fn mmu_type(&self) -> &'static str {
        if self.sv48 { "riscv,sv48" } else { "riscv,sv39" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_switched_on() {
        let mut extensions = Extensions::default();
        assert_eq!(
            extensions.isa_string(),
            "rv64imafdc_zicntr_zicsr_zifencei_zba_zbb_zbs_sstc",
            "everything"
        );
        for name in ["c", "zba", "zbb", "zbs", "sstc", "sv48"] {
            extensions.set(name, false).unwrap();
        }
        assert_eq!(extensions.isa_string(), "rv64imafd_zicntr_zicsr_zifencei");
        assert_eq!(extensions.mmu_type(), "riscv,sv39");
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.set("g", false), Err(ExtensionError::Required("g".into())));
        assert_eq!(extensions.set("v", true), Err(ExtensionError::Unknown("v".into())));
        assert_eq!(extensions, Extensions::ALL);
    }
}
