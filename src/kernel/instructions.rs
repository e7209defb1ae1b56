//! What the processor can do: the one place where it is asked.
//!
//! All sets compute the same bits; see [`super`]. A choice among them is one of speed alone.

use std::sync::LazyLock;

use crate::error::{Error, Result};

/// The environment variable that names a set to use instead of the widest one: `avx512`, `avx2` or `portable`. For
/// tests, and for comparing: results do not depend on it.
pub const VARIABLE: &str = "NYX_INSTRUCTIONS";

/// A set of vector instructions with fused multiply-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// 512-bit vectors; whoever has them has the next, too.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust.
    Portable,
}

impl Instructions {
    /// Returns the widest set this processor has, or the one that [`VARIABLE`] names.
    pub fn detect() -> Self {
        static CHOSEN: LazyLock<Instructions> =
            LazyLock::new(|| Instructions::chosen().unwrap_or(Instructions::available()[0]));
        *CHOSEN
    }

    /// Returns the set that [`VARIABLE`] names; the widest one without it.
    ///
    /// # Errors
    ///
    /// When the processor has no set of that name.
    pub fn chosen() -> Result<Self> {
        let available = Self::available();
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(available[0]) };
        let plain = |text: &str| text.to_lowercase().replace('-', "");
        let wanted = plain(&name.to_string_lossy());
        available.iter().copied().find(|set| plain(set.name()) == wanted).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|set| plain(set.name())).collect();
            Error::usage(format!("{VARIABLE}={}: this processor has {}", name.display(), names.join(", ")))
        })
    }

    /// Returns the sets this processor has, the widest first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if narrow && is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if narrow {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// Returns the name that its makers use.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
        }
    }
}

/// Returns the extensions that some kernel has a use for, and whether this processor has them.
#[cfg(target_arch = "x86_64")]
pub fn extensions() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", has_bf16()),
        ("avx512vnni", has_vnni()),
    ]
}

/// Returns the extensions that some kernel has a use for: none on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn extensions() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// Says whether the processor multiplies pairs of bfloat16 in 512-bit vectors.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Says whether the processor multiplies fours of bytes in 512-bit vectors.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
}

/// Defines a function whose plain loops are compiled for each set of instructions: `body` must be marked
/// `#[inline(always)]`. Nothing in it may depend on the set, and Rust keeps the order of its operations, so the
/// bits are the same.
macro_rules! vectorize {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident $(<$generic:ident: $bound:path>)? ($($argument:ident: $type:ty),* $(,)?) = $body:path) => {
        $(#[$attribute])*
        #[allow(unsafe_code)]
        $visibility fn $name $(<$generic: $bound>)? (
            instructions: $crate::kernel::Instructions, $($argument: $type),*
        ) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512 $(<$generic: $bound>)? ($($argument: $type),*) {
                $body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$generic: $bound>)? ($($argument: $type),*) {
                $body($($argument),*)
            }
            match instructions {
                // SAFETY: `Instructions::Avx512` exists only where the processor has all three.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::Instructions::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: `Instructions::Avx2` exists only where the processor has both.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::Instructions::Avx2 => unsafe { avx2($($argument),*) },
                $crate::kernel::Instructions::Portable => $body($($argument),*),
            }
        }
    };
}
pub(crate) use vectorize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_set_comes_first_and_plain_rust_is_always_there() {
        let all = Instructions::available();
        assert_eq!((all[0], all[all.len() - 1]), (Instructions::detect(), Instructions::Portable));
    }
}
