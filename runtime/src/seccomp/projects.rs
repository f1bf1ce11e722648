//! Keeping programs in their project, where a project's quota is all that limits them.
//!
//! In the first user namespace the owner of a file may take it out of its project, or keep a folder from handing the
//! project down, without any capability (`chattr -p`, ioctl_xfs_fsgetxattr(2)); the kernel refuses it elsewhere alone.
//! A filter sees only that flags of files are set, not which; so none can be.

use super::profile::{Action, Argument, Compare, Profile, Rule};

/// linux/fs.h: `FS_IOC_SETFLAGS`, the same of 32-bit programs, and `FS_IOC_FSSETXATTR`.
const COMMANDS: [u64; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];
/// The call for it since Linux 6.17.
const CALL: &str = "file_setattr";
/// As on a file system without flags; programs go on then.
const EOPNOTSUPP: u16 = 95;
const ENOTTY: u16 = 25;
/// The number of an ioctl: `int`, whatever is above it.
const LOWER: u64 = 0xffff_ffff;

impl Profile {
    /// The same profile for programs that are to stay in the projects of their files.
    #[must_use]
    pub fn keeping_projects(&self) -> Profile {
        let refused = match Action::errno(EOPNOTSUPP) {
            // A rule with the default action would say nothing.
            same if same == self.default => Action::errno(ENOTTY),
            other => other,
        };
        let deny = |name: &'static str, arguments: Vec<Argument>| Rule {
            names: vec![name.into()],
            action: refused,
            arguments,
            includes: Default::default(),
            excludes: Default::default(),
        };
        let second = |compare, value| Argument {
            index: 1,
            compare,
            value,
        };
        let mut rules: Vec<Rule> = COMMANDS
            .map(|command| deny("ioctl", vec![second(Compare::MaskedEq(LOWER), command)]))
            .into();
        let names = |rule: &Rule, name: &str| rule.names.iter().any(|known| known == name);
        // Naming it where nobody did would make calls older than it known to the profile.
        if self.default.lets_through() || self.rules.iter().any(|rule| names(rule, CALL)) {
            rules.push(deny(CALL, Vec::new()));
        }
        for rule in &self.rules {
            let mut rule = rule.clone();
            if rule.action.lets_through() && rule.arguments.is_empty() && names(&rule, "ioctl") {
                // Without a condition it would win over ours; with one that always holds it is the last word.
                let mut ioctl = rule.clone();
                ioctl.names = vec!["ioctl".into()];
                ioctl.arguments = vec![second(Compare::Ge, 0)];
                rules.push(ioctl);
                rule.names.retain(|name| name != "ioctl");
            }
            rules.push(rule);
        }
        self.with_rules(rules)
    }
}
