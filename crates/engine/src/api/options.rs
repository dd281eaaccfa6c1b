//! Options of calls: structs with a default for every field and a method that sets it.

/// Declares a struct of options. Each field can be set by name in a literal with `..Default::default()`, or by the
/// method of its name.
macro_rules! options {
    ($(
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[$inner:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
        }

        impl $name {
            $(
                $(#[$inner])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    )*};
}
pub(crate) use options;
