//! Local files as a tar.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::rules::{End, Plan, renamed, split_entry};

/// Writes the source, and all that is in it, under the names that the plan gives.
///
/// # Errors
/// Something cannot be read; the writer fails.
pub fn pack(source: &End, plan: &Plan, out: impl Write) -> io::Result<()> {
    let (_, entry) = split_entry(&source.path);
    let own = match &source.rebase {
        // Archived under the name that was asked for.
        Some(name) => name.clone(),
        None => entry,
    };
    let mut packing = Packing {
        tar: Builder::new(out),
        rename: plan.rename.clone(),
        links: HashMap::new(),
    };
    let name = match own.as_str() {
        "/" => ".",
        own => own,
    };
    packing.add(Path::new(&source.path), name.as_bytes())?;
    packing.tar.finish()
}

struct Packing<W: Write> {
    tar: Builder<W>,
    rename: Option<(String, String)>,
    /// Files with several names → the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packing<W> {
    fn add(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let data = fs::symlink_metadata(path).map_err(about)?;
        let kind = data.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(data.mode() & 0o7777);
        header.set_uid(data.uid().into());
        header.set_gid(data.gid().into());
        header.set_mtime(u64::try_from(data.mtime()).unwrap_or_default());
        header.set_size(0);
        let shown = renamed(name, self.rename.as_ref());
        let shown_path = Path::new(std::ffi::OsStr::from_bytes(&shown));
        if kind.is_socket() {
            // Tar has no type for them; they mean nothing without their process.
            return Ok(());
        }
        if !kind.is_dir() && data.nlink() > 1 {
            if let Some(first) = self.links.get(&(data.dev(), data.ino())) {
                header.set_entry_type(EntryType::Link);
                let first = Path::new(std::ffi::OsStr::from_bytes(first)).to_owned();
                return self.tar.append_link(&mut header, shown_path, first);
            }
            self.links.insert((data.dev(), data.ino()), shown.clone());
        }
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            let folder = [shown.as_slice(), b"/"].concat();
            self.tar.append_data(
                &mut header,
                Path::new(std::ffi::OsStr::from_bytes(&folder)),
                io::empty(),
            )?;
            let mut entries = fs::read_dir(path)
                .map_err(about)?
                .collect::<io::Result<Vec<_>>>()
                .map_err(about)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                self.add(&entry.path(), &[name, b"/", entry.file_name().as_bytes()].concat())?;
            }
            return Ok(());
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self
                .tar
                .append_link(&mut header, shown_path, fs::read_link(path).map_err(about)?);
        }
        if kind.is_file() {
            let file = fs::File::open(path).map_err(about)?;
            let size = file.metadata().map_err(about)?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
            // The header is a promise: what grows meanwhile is cut, what shrinks is filled up.
            let content = io::Read::chain(io::Read::take(file, size), io::repeat(0));
            return self
                .tar
                .append_data(&mut header, shown_path, io::Read::take(content, size));
        }
        header.set_entry_type(match () {
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_char_device() => EntryType::Char,
            () => EntryType::Block,
        });
        header.set_device_major(nix::sys::stat::major(data.rdev()) as u32)?;
        header.set_device_minor(nix::sys::stat::minor(data.rdev()) as u32)?;
        self.tar.append_data(&mut header, shown_path, io::empty())
    }
}
