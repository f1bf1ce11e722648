//! Unix sockets with names: made where nobody listens, given to a group, and gone with who made them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use tokio::net::UnixListener;
use tracing::warn;

use crate::listen::{Access, Address, Error};

/// Owner and group may connect, nobody else: who can connect is root on this machine.
const SOCKET_MODE: u32 = 0o660;

/// A unix socket that listens. Its name goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    made: Made,
}

impl UnixSocket {
    /// Makes folder and socket, and takes the place of one that nobody listens at any more.
    ///
    /// # Errors
    /// Somebody listens there, or it cannot be made or given to the group.
    pub fn bind(path: &Path, access: &Access) -> Result<UnixSocket, Error> {
        let address = Address::Unix(path.to_owned());
        let bind = |source| Error::Bind {
            address: address.clone(),
            source,
        };
        clear_stale(path, &address)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(bind)?;
        }
        // Until the mode is set, the umask keeps others from writing, which connecting needs.
        let listener = UnixListener::bind(path).map_err(bind)?;
        let made = Made {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path).map_err(bind)?.ino(),
        };
        if let Some((group, by_name)) = &access.group {
            give(path, group, *by_name)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(bind)?;
        Ok(UnixSocket { listener, made })
    }

    /// The socket for who serves it, and what removes its name when it is dropped.
    pub fn into_parts(self) -> (UnixListener, Made) {
        (self.listener, self.made)
    }
}

/// The name of a socket that we made.
#[derive(Debug)]
pub struct Made {
    path: PathBuf,
    inode: u64,
}

impl Drop for Made {
    fn drop(&mut self) {
        // A successor may have put its own socket there in the meantime.
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody serves any more.
fn clear_stale(path: &Path, address: &Address) -> Result<(), Error> {
    let bind = |source| Error::Bind {
        address: address.clone(),
        source,
    };
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(Error::InUse(path.to_owned())),
        Err(_) => fs::remove_file(path).map_err(bind),
    }
}

fn give(path: &Path, group: &str, by_name: bool) -> Result<(), Error> {
    let failed = |source: nix::Error| Error::Group {
        path: path.to_owned(),
        group: group.to_owned(),
        source: source.into(),
    };
    let gid = match group.parse::<u32>() {
        Ok(number) => nix::unistd::Gid::from_raw(number),
        Err(_) => match Group::from_name(group).map_err(failed)? {
            Some(found) => found.gid,
            None if by_name => return Err(Error::NoGroup(group.to_owned())),
            None => {
                warn!(group, "the group does not exist: only root can use the socket");
                return Ok(());
            }
        },
    };
    chown(path, None, Some(gid)).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/x.sock");
        let open = || UnixSocket::bind(&path, &Access::default());
        let first = open().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert!(matches!(open(), Err(Error::InUse(_))));
        drop(first);
        assert!(!path.exists());
        // A socket left by a daemon that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(open().unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(open(), Err(Error::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
