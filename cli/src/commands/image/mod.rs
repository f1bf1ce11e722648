//! `iechor image …`, one file per command.

pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod pull;
pub mod rm;
pub mod save;
pub mod tag;
mod tree;

/// Characters of a shortened id.
pub(crate) const ID_WIDTH: usize = 12;

/// An id as lists show it: twelve digits without the algorithm, unless the whole is wanted.
pub(crate) fn short(id: &str, whole: bool) -> String {
    if whole {
        return id.to_owned();
    }
    id.strip_prefix("sha256:")
        .unwrap_or(id)
        .chars()
        .take(ID_WIDTH)
        .collect()
}
