//! The words of `mounts[].options`.

use super::{Result, invalid};
use nix::mount::MsFlags;

/// The words of `mounts[].options`, sorted by what becomes of them.
pub(super) struct Options {
    pub set: MsFlags,
    pub clear: MsFlags,
    pub recursive_set: u64,
    pub recursive_clear: u64,
    pub propagation: MsFlags,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
    pub remount: bool,
    pub copy_up: bool,
    pub data: Vec<String>,
}

// <linux/mount.h>
const ATTR_RDONLY: u64 = 0x1;
const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
const ATTR_NOEXEC: u64 = 0x8;
/// The access time modes are values of one field: setting one means clearing the field.
const ATTR_ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// `MS_NOSYMFOLLOW`, which `nix` lacks.
const MS_NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

impl Options {
    pub(super) fn parse(words: &[String], field: &str) -> Result<Options> {
        let mut out = Options {
            set: MsFlags::empty(),
            clear: MsFlags::empty(),
            recursive_set: 0,
            recursive_clear: 0,
            propagation: MsFlags::empty(),
            bind: None,
            idmap: None,
            remount: false,
            copy_up: false,
            data: Vec::new(),
        };
        for word in words {
            if word.contains('\0') {
                return invalid(field, "an option holds a NUL");
            }
            out.word(word)?;
        }
        Ok(out)
    }

    fn word(&mut self, word: &str) -> Result<()> {
        // Later words override earlier ones.
        let flag = match word {
            "" | "defaults" => return Ok(()),
            "ro" => (true, MsFlags::MS_RDONLY),
            "rw" => (false, MsFlags::MS_RDONLY),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "atime" => (false, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "diratime" => (false, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "norelatime" => (false, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
            "nosymfollow" => (true, MS_NOSYMFOLLOW),
            "symfollow" => (false, MS_NOSYMFOLLOW),
            "sync" => (true, MsFlags::MS_SYNCHRONOUS),
            "async" => (false, MsFlags::MS_SYNCHRONOUS),
            "dirsync" => (true, MsFlags::MS_DIRSYNC),
            "lazytime" => (true, MsFlags::MS_LAZYTIME),
            "nolazytime" => (false, MsFlags::MS_LAZYTIME),
            // No difference to anything: mandatory locking went with Linux 5.15, `silent` is about the kernel's log, and
            // `iversion` is the file system's own business.
            "mand" | "nomand" | "loud" | "silent" | "iversion" | "noiversion" => return Ok(()),
            _ => return self.other(word),
        };
        let (on, off) = if flag.0 {
            (&mut self.set, &mut self.clear)
        } else {
            (&mut self.clear, &mut self.set)
        };
        on.insert(flag.1);
        off.remove(flag.1);
        Ok(())
    }

    fn other(&mut self, word: &str) -> Result<()> {
        if let Some(propagation) = propagation(word) {
            self.propagation = propagation;
            return Ok(());
        }
        // (bits to set, bits to clear) on the mount and all below it
        let recursive = match word {
            "rro" => (ATTR_RDONLY, 0),
            "rrw" => (0, ATTR_RDONLY),
            "rnosuid" => (ATTR_NOSUID, 0),
            "rsuid" => (0, ATTR_NOSUID),
            "rnodev" => (ATTR_NODEV, 0),
            "rdev" => (0, ATTR_NODEV),
            "rnoexec" => (ATTR_NOEXEC, 0),
            "rexec" => (0, ATTR_NOEXEC),
            "rnodiratime" => (ATTR_NODIRATIME, 0),
            "rdiratime" => (0, ATTR_NODIRATIME),
            "rnosymfollow" => (ATTR_NOSYMFOLLOW, 0),
            "rsymfollow" => (0, ATTR_NOSYMFOLLOW),
            "rnoatime" => (ATTR_NOATIME, ATTR_ATIME),
            "rstrictatime" => (ATTR_STRICTATIME, ATTR_ATIME),
            "rrelatime" | "ratime" | "rnorelatime" | "rnostrictatime" => (0, ATTR_ATIME),
            "bind" => {
                // Both words are common together; the recursive one says more.
                self.bind = Some(self.bind.unwrap_or(false));
                return Ok(());
            }
            "rbind" => {
                self.bind = Some(true);
                return Ok(());
            }
            "tmpcopyup" => {
                self.copy_up = true;
                return Ok(());
            }
            "idmap" => {
                self.idmap = Some(self.idmap.unwrap_or(false));
                return Ok(());
            }
            "ridmap" => {
                self.idmap = Some(true);
                return Ok(());
            }
            "remount" => {
                self.remount = true;
                return Ok(());
            }
            data => {
                self.data.push(data.to_owned());
                return Ok(());
            }
        };
        self.recursive_set = self.recursive_set & !recursive.1 | recursive.0;
        self.recursive_clear = self.recursive_clear & !recursive.0 | recursive.1;
        Ok(())
    }
}

/// Propagation by its word, of a mount and of the root alike.
pub(super) fn propagation(word: &str) -> Option<MsFlags> {
    let rec = MsFlags::MS_REC;
    Some(match word {
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | rec,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | rec,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | rec,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | rec,
        _ => return None,
    })
}

/// Every word that means something here by itself, for the `features` document; others are options of the file system.
pub(crate) const WORDS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_words_are_options_or_refused(
            words in proptest::collection::vec(r"(r?no|r)?(bind|ro|suid|exec|atime|shared|idmap)(=[0-9:,-]{0,9})?|.{0,12}", 0..6),
        ) {
            if let Ok(options) = Options::parse(&words, "mounts") {
                proptest::prop_assert!(options.data.iter().all(|option| !option.contains('\0')));
                proptest::prop_assert!((options.set & options.clear).is_empty(), "{words:?}");
            }
        }
    }
}
