//! A unit of systemd that holds a container: what the shim asks for, in a form that travels with the plan.
//!
//! The types are here and not beside the D-Bus client (`runtime/systemd`), because the plan is made where systemd is
//! not spoken to, and because this crate knows nothing of sockets.

use crate::wire::{Blob, wire_enum, wire_struct};

wire_struct! {
    /// A transient scope or slice.
    pub struct SystemdUnit {
        /// `prefix-name.scope`, or `a-b.slice`.
        pub name: String,
        /// The slice above it; of no meaning for a slice, whose name says where it stands.
        pub slice: String,
        /// What `systemctl status` shows.
        pub description: String,
        /// Set in this order. `Slice`, `Description` and `PIDs` are not among them.
        pub properties: Vec<UnitProperty>,
    }
}

wire_struct! {
    /// One property, by its D-Bus name (`MemoryMax`, `CPUQuotaPerSecUSec`).
    pub struct UnitProperty {
        /// Name as in `org.freedesktop.systemd1(5)`.
        pub name: String,
        /// Its value, of the type which systemd wants for this name.
        pub value: UnitValue,
    }
}

wire_enum! {
    /// The D-Bus types that properties of units have.
    pub enum UnitValue {
        /// `b`
        0 => Bool { value: bool },
        /// `i`
        1 => I32 { value: i32 },
        /// `u`
        2 => U32 { value: u32 },
        /// `x`
        3 => I64 { value: i64 },
        /// `t`
        4 => U64 { value: u64 },
        /// `s`
        5 => Text { value: String },
        /// `as`
        6 => Texts { values: Vec<String> },
        /// `au`
        7 => Numbers { values: Vec<u32> },
        /// `ay`
        8 => Bytes { value: Blob },
        /// `a(ss)`
        9 => Pairs { values: Vec<(String, String)> },
        /// `a(st)`
        10 => Amounts { values: Vec<(String, u64)> },
    }
}

impl SystemdUnit {
    /// A slice rather than a scope.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

impl UnitProperty {
    /// `UnitProperty::new("TasksMax", 100u64)`: the type of the value decides the D-Bus type.
    pub fn new(name: &str, value: impl Into<UnitValue>) -> UnitProperty {
        UnitProperty {
            name: name.to_owned(),
            value: value.into(),
        }
    }
}

impl UnitValue {
    /// The D-Bus signature.
    pub fn signature(&self) -> &'static str {
        match self {
            UnitValue::Bool { .. } => "b",
            UnitValue::I32 { .. } => "i",
            UnitValue::U32 { .. } => "u",
            UnitValue::I64 { .. } => "x",
            UnitValue::U64 { .. } => "t",
            UnitValue::Text { .. } => "s",
            UnitValue::Texts { .. } => "as",
            UnitValue::Numbers { .. } => "au",
            UnitValue::Bytes { .. } => "ay",
            UnitValue::Pairs { .. } => "a(ss)",
            UnitValue::Amounts { .. } => "a(st)",
        }
    }
}

macro_rules! from {
    ($($t:ty => $variant:ident { $field:ident }),* $(,)?) => {$(
        impl From<$t> for UnitValue {
            fn from($field: $t) -> UnitValue {
                UnitValue::$variant { $field }
            }
        }
    )*};
}
from!(
    bool => Bool { value },
    i32 => I32 { value },
    u32 => U32 { value },
    i64 => I64 { value },
    u64 => U64 { value },
    String => Text { value },
    Vec<String> => Texts { values },
    Vec<u32> => Numbers { values },
    Blob => Bytes { value },
    Vec<(String, String)> => Pairs { values },
    Vec<(String, u64)> => Amounts { values },
);

impl From<&str> for UnitValue {
    fn from(value: &str) -> UnitValue {
        UnitValue::Text {
            value: value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::wire::{Wire, WireError};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = UnitValue> {
        let text = || ".{0,12}";
        prop_oneof![
            any::<bool>().prop_map(UnitValue::from),
            any::<i32>().prop_map(UnitValue::from),
            any::<u32>().prop_map(UnitValue::from),
            any::<i64>().prop_map(UnitValue::from),
            any::<u64>().prop_map(UnitValue::from),
            text().prop_map(UnitValue::from),
            vec(text(), 0..4).prop_map(UnitValue::from),
            vec(any::<u32>(), 0..4).prop_map(UnitValue::from),
            any::<Vec<u8>>().prop_map(|bytes| UnitValue::from(Blob(bytes))),
            vec((text(), text()), 0..4).prop_map(UnitValue::from),
            vec((text(), any::<u64>()), 0..4).prop_map(UnitValue::from),
        ]
    }

    fn unit() -> impl Strategy<Value = SystemdUnit> {
        let property = (".{0,12}", value()).prop_map(|(name, value)| UnitProperty { name, value });
        (".{0,12}", ".{0,12}", ".{0,12}", vec(property, 0..8)).prop_map(|(name, slice, description, properties)| {
            SystemdUnit {
                name,
                slice,
                description,
                properties,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_unit_is_read_as_it_was_written(unit in unit()) {
            let mut bytes = unit.encode();
            prop_assert_eq!(&SystemdUnit::decode(&bytes).unwrap(), &unit);
            bytes.push(0);
            prop_assert_eq!(SystemdUnit::decode(&bytes), Err(WireError::Trailing));
        }

        #[test]
        fn a_damaged_unit_never_panics(unit in unit(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = unit.encode();
            let at = at.index(bytes.len());
            prop_assert!(SystemdUnit::decode(&bytes[..at]).is_err());
            bytes[at] = with;
            let _ = SystemdUnit::decode(&bytes);
        }
    }
}
