//! Numbers with a unit: bytes, fuel, CPU shares, rates, times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;

/// A limit that may be absent: any bound is below `Unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit<T> {
    AtMost(T),
    Unlimited,
}

impl<T: Copy> Limit<T> {
    /// The bound, where there is one.
    pub fn bound(self) -> Option<T> {
        match self {
            Limit::AtMost(bound) => Some(bound),
            Limit::Unlimited => None,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(bound) => bound.fmt(f),
            Limit::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// A number of bytes, written as docker writes it: `64m`, `1g`, `1536k`, `100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(u64);

impl Bytes {
    pub const fn new(bytes: u64) -> Bytes {
        Bytes(bytes)
    }

    /// So many times 1024 × 1024 bytes.
    pub const fn mib(count: u64) -> Bytes {
        Bytes(count << 20)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Instructions that a guest may execute, as wasmtime's fuel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fuel(u64);

impl Fuel {
    pub const fn new(units: u64) -> Fuel {
        Fuel(units)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A share of one CPU in thousandths: `0.5` is half of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuShare(u32);

impl CpuShare {
    /// Thousandths of a core.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

/// Bytes in a second, written as bytes: `1m` is a MiB in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(Bytes);

impl Rate {
    /// How many bytes pass in one second.
    pub const fn per_second(self) -> u64 {
        self.0.get()
    }
}

/// How long something may take: `5s`, `100ms`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout(Duration);

impl Timeout {
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Why a text is not a number of its unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` is not a size: write a whole number, and b, k, m, g or t behind it")]
    Bytes(String),
    #[error("`{0}` is not a rate: write the bytes in a second, as 512k or 1m")]
    Rate(String),
    #[error("`{0}` is not an amount of fuel: write a whole number of instructions above zero")]
    Fuel(String),
    #[error("`{0}` is not a CPU share: write a number such as 0.5, from 0.01 to 4096")]
    CpuShare(String),
    #[error("`{0}` is not a time: write one such as 5s, 100ms or 1m30s, above zero")]
    Timeout(String),
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Bytes, UnitError> {
        parse_bytes(text).ok_or_else(|| UnitError::Bytes(text.into()))
    }
}

fn parse_bytes(text: &str) -> Option<Bytes> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift).map(Bytes)
}

impl fmt::Display for Bytes {
    /// Prints the largest unit that keeps the number whole, so that it parses to itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |shift: &u32| self.0 != 0 && self.0.is_multiple_of(1 << shift);
        match units.iter().find(|(shift, _)| whole(shift)) {
            Some((shift, name)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Rate, UnitError> {
        match parse_bytes(text) {
            Some(bytes) if bytes.get() > 0 => Ok(Rate(bytes)),
            _ => Err(UnitError::Rate(text.into())),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Fuel {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Fuel, UnitError> {
        match text.replace('_', "").parse() {
            Ok(units) if units > 0 => Ok(Fuel(units)),
            _ => Err(UnitError::Fuel(text.into())),
        }
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CpuShare {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<CpuShare, UnitError> {
        let share: f64 = text.parse().map_err(|_| UnitError::CpuShare(text.into()))?;
        if !(0.01..=4096.0).contains(&share) {
            return Err(UnitError::CpuShare(text.into()));
        }
        Ok(CpuShare((share * 1000.0).round() as u32))
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl FromStr for Timeout {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Timeout, UnitError> {
        match humantime::parse_duration(text) {
            Ok(time) if !time.is_zero() => Ok(Timeout(time)),
            _ => Err(UnitError::Timeout(text.into())),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

serde_as_text!(Bytes, Fuel, CpuShare, Rate, Timeout);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Bytes>().map(Bytes::get);
        assert_eq!(read("64m"), Ok(64 << 20));
        assert_eq!(read("1GiB"), Ok(1 << 30));
        assert_eq!(read("100"), Ok(100));
        for bad in ["", "m", "-1", "1.5g", "1x", "99999999999t", "1 m"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_of_zero_can_be_granted() {
        assert!("0".parse::<Fuel>().is_err());
        assert!("0".parse::<CpuShare>().is_err());
        assert!("nan".parse::<CpuShare>().is_err());
        assert!("0s".parse::<Timeout>().is_err());
        assert!("0".parse::<Rate>().is_err());
    }

    #[test]
    fn every_bound_is_below_unlimited() {
        assert!(Limit::AtMost(u64::MAX) < Limit::Unlimited);
        assert!(Limit::AtMost(1) < Limit::AtMost(2));
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_itself(
            bytes in any::<u64>(), fuel in 1..u64::MAX, share in 10u32..4_000_000, ms in 1u64..1 << 40
        ) {
            prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>().unwrap(), Bytes(bytes));
            prop_assert_eq!(Fuel(fuel).to_string().parse::<Fuel>().unwrap(), Fuel(fuel));
            prop_assert_eq!(CpuShare(share).to_string().parse::<CpuShare>().unwrap(), CpuShare(share));
            let time = Timeout(Duration::from_millis(ms));
            prop_assert_eq!(time.to_string().parse::<Timeout>().unwrap(), time);
        }
    }
}
