//! `SluiceConfiguration`: the flags for which kube-proxy has no field, in camelCase.

use clap::Command;

use super::document::Fields;
use super::{Fault, Given, Reading, kube_proxy, settable};

/// Its `apiVersion`.
pub(super) const VERSION: &str = "sluice.lb/v1alpha1";
/// Its `kind`.
pub(super) const KIND: &str = "SluiceConfiguration";

/// Reads `fields` as flags of `command`.
///
/// # Errors
/// The first field that is none, or whose value is nested.
pub(super) fn read(fields: Fields, command: &Command, reading: &mut Reading) -> Result<(), Fault> {
    for (field, value) in fields {
        let line = value.line;
        let flags = || settable(command).filter_map(clap::Arg::get_long);
        let Some(flag) = flags().find(|flag| name(flag) == field) else {
            let near = flags().map(name).find(|name| name.eq_ignore_ascii_case(&field));
            let text = match near {
                Some(near) => format!("there is no field `{field}`: it is called {near}"),
                None => format!(
                    "there is no field `{field}`: fields are the flags of `sluice agent --help`, written like podInterfaces"
                ),
            };
            return Err(Fault::new(line, text));
        };
        if let Some(other) = kube_proxy::field_of(flag) {
            let text = format!("{field}: write it as {other} into a {}", kube_proxy::KIND);
            return Err(Fault::new(line, text));
        }
        let Some(value) = value.value.flag() else {
            return Err(Fault::new(line, format!("{field}: one value is wanted, or a list of values")));
        };
        if !value.is_empty() {
            reading.given.push(Given { flag: flag.to_owned(), field, line, value });
        }
    }
    Ok(())
}

/// The field for a flag: `pod-interfaces` is `podInterfaces`.
pub(super) fn name(flag: &str) -> String {
    let mut name = String::with_capacity(flag.len());
    let mut upper = false;
    for letter in flag.chars() {
        match letter {
            '-' => upper = true,
            letter if std::mem::take(&mut upper) => name.push(letter.to_ascii_uppercase()),
            letter => name.push(letter),
        }
    }
    name
}
