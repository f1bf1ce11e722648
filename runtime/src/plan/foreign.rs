//! Another OCI runtime that makes the container in the shim's place.

use std::ffi::OsString;
use std::path::PathBuf;

use super::User;
use crate::wire::wire_struct;

wire_struct! {
    /// An OCI runtime, by its command line. Root, control groups' names and streams are those of the plan; everything
    /// else it is told by [`ProcessPlan::document`](super::ProcessPlan::document).
    pub struct Foreign {
        /// What the administrator calls it.
        pub name: String,
        /// Its program, by an absolute path.
        pub program: PathBuf,
        /// Arguments before all others.
        pub args: Vec<OsString>,
        /// Folder of this run: the bundle, the runtime's own state, its log. Made for the run and removed after it.
        pub bundle: PathBuf,
    }
}

/// A document without its end: the user of the process, whom only the inside of the container's root can tell. So a
/// shim needs no JSON.
///
/// ```
/// use runtime::plan::{User, finish_document};
/// let user = User::Ids { uid: 7, gid: 8, groups: vec![8, 9] };
/// assert_eq!(
///     finish_document("{\"args\":[\"sh\"]", &user, None).as_deref(),
///     Some("{\"args\":[\"sh\"],\"user\":{\"uid\":7,\"gid\":8,\"additionalGids\":[8,9]}}")
/// );
/// ```
///
/// Objects that are open at the end of `begin` are closed. `None` for a user by name.
pub fn finish_document(begin: &str, user: &User, umask: Option<u32>) -> Option<String> {
    let User::Ids { uid, gid, groups } = user else {
        return None;
    };
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    let umask = umask.map(|mask| format!(",\"umask\":{mask}")).unwrap_or_default();
    let ends = "}".repeat(open_objects(begin));
    let groups = groups.join(",");
    Some(format!(
        "{begin},\"user\":{{\"uid\":{uid},\"gid\":{gid},\"additionalGids\":[{groups}]{umask}}}{ends}"
    ))
}

/// How many objects are open at the end; braces in strings are none.
fn open_objects(text: &str) -> usize {
    let (mut depth, mut string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'{' if !string => depth += 1,
            b'}' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_strings_are_text() {
        assert_eq!(open_objects(r#"{"a":"{\"}{","process":{"env":["X={"]"#), 2);
        assert_eq!(open_objects("{}"), 0);
    }

    #[test]
    fn a_user_by_name_has_no_number() {
        let user = User::Named {
            user: "web".into(),
            extra_groups: Vec::new(),
        };
        assert_eq!(finish_document("{", &user, None), None);
    }
}
