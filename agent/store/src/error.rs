//! Everything that can go wrong in the store, each with one [`Kind`].

use crate::digest::{ChainId, Digest};
use std::io;
use std::path::{Path, PathBuf};

/// What the caller can do about an [`Error`]; adapters map it to their status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing has that name.
    NotFound,
    /// The request does not fit the present state (name in use, image in use).
    Conflict,
    /// What was sent is wrong: a malformed archive, a digest that does not match, a bad name.
    Invalid,
    /// The place is closed to writing.
    Forbidden,
    /// A limit of the configuration was reached.
    TooLarge,
    /// The disk is full.
    NoSpace,
    /// The machine cannot do it.
    Unsupported,
    /// The store itself is broken or the machine failed us.
    Internal,
}

/// The result of the store's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Text that should be a digest.
    #[error("{text:?} is not a digest: {why}")]
    BadDigestText {
        /// what was given, shortened
        text: String,
        /// what is wrong with it
        why: &'static str,
    },
    /// A system call on a file of the store.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// verb
        what: &'static str,
        /// on which file
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// Reading what the caller feeds us failed (a broken connection).
    #[error("cannot read {what}")]
    Source {
        /// which stream
        what: &'static str,
        /// why
        #[source]
        source: io::Error,
    },
    /// Writing what the caller asked for failed.
    #[error("cannot write {what}")]
    Sink {
        /// which stream
        what: &'static str,
        /// why
        #[source]
        source: io::Error,
    },
    /// The metadata database failed.
    #[error("the metadata store failed to {what}: {reason}")]
    Metadata {
        /// verb
        what: &'static str,
        /// in the database's words
        reason: String,
    },
    /// The disk has no room for one more record.
    #[error(
        "no space left on device: the metadata database {path} cannot take another record; remove something or make room, then try again",
        path = path.display()
    )]
    NoRoomForRecord {
        /// the database
        path: PathBuf,
    },
    /// Another daemon owns this data root.
    #[error("the data root {path} is in use by another daemon; stop that one or choose another --data-root", path = path.display())]
    Locked {
        /// the data root
        path: PathBuf,
    },
    /// A record that this version cannot read.
    #[error("record {key} in table {table} is unreadable: {reason}")]
    BadRecord {
        /// table
        table: &'static str,
        /// key
        key: String,
        /// why
        reason: String,
    },
    /// No image by that name, id or digest.
    #[error("No such image: {reference}")]
    NoSuchImage {
        /// as asked
        reference: String,
    },
    /// An id prefix that fits several images.
    #[error("image ID prefix {prefix:?} is ambiguous: it fits {count} images; give more digits")]
    AmbiguousImage {
        /// as asked
        prefix: String,
        /// how many fit
        count: usize,
    },
    /// Removing an image that still has several names, without force.
    #[error(
        "unable to delete {id} (must be forced) - image is referenced in multiple repositories: {names}",
        id = id.short()
    )]
    ImageHasNames {
        /// image
        id: Digest,
        /// its names
        names: String,
    },
    /// No layer with that chain id.
    #[error("layer {chain} is not in the store")]
    NoSuchLayer {
        /// chain id
        chain: ChainId,
    },
    /// No writable layer for that container.
    #[error("there is no writable layer for {id}")]
    NoSuchSnapshot {
        /// owner
        id: String,
    },
    /// A writable layer with that id exists already.
    #[error("there is a writable layer for {id} already")]
    SnapshotExists {
        /// owner
        id: String,
    },
    /// A name that cannot be a folder's.
    #[error("{id:?} cannot name a writable layer: use letters, digits, '-', '_' and '.'")]
    BadSnapshotId {
        /// as given
        id: String,
    },
    /// Content is not what it was announced as.
    #[error("{what} has digest {actual}, not {expected} as announced; it was not stored")]
    DigestMismatch {
        /// which content
        what: String,
        /// announced
        expected: Digest,
        /// found
        actual: Digest,
    },
    /// Content is longer or shorter than announced.
    #[error("{what} has {actual} bytes, not {expected} as announced; it was not stored")]
    SizeMismatch {
        /// which content
        what: String,
        /// announced
        expected: u64,
        /// found (for a longer one: how many were read before we stopped)
        actual: u64,
    },
    /// Data in a compression that we do not read.
    #[error("{what} is compressed with {method}, which is not supported; use gzip, zstd or no compression")]
    UnsupportedCompression {
        /// which content
        what: String,
        /// method's name
        method: &'static str,
    },
    /// The compressed stream is damaged.
    #[error("cannot decompress {what}")]
    Decompress {
        /// which content
        what: String,
        /// why
        #[source]
        source: io::Error,
    },
    /// A malformed or hostile entry in a tar archive.
    #[error("the archive is refused at entry {entry:?}: {reason}")]
    BadEntry {
        /// the entry's name, as far as it was readable
        entry: String,
        /// what is wrong
        reason: String,
    },
    /// A malformed tar archive.
    #[error("the archive is refused at byte {offset}: {reason}")]
    BadTar {
        /// where in the uncompressed archive
        offset: u64,
        /// what is wrong
        reason: &'static str,
    },
    /// Creating a file of a layer, or of a container, failed.
    #[error("cannot {what} {entry:?} while unpacking")]
    Unpack {
        /// verb
        what: &'static str,
        /// the entry's name
        entry: String,
        /// why
        #[source]
        source: io::Error,
    },
    /// Nothing is at this path of a container.
    #[error("{path}: no such file or directory")]
    NoSuchFile {
        /// the path
        path: String,
    },
    /// Something that is no folder is where one must be.
    #[error("{path}: not a directory")]
    NotAFolder {
        /// the path
        path: String,
    },
    /// Nothing can be written to this place of a container.
    #[error("{what} is marked read-only")]
    ReadOnlyPlace {
        /// the root or a volume
        what: &'static str,
    },
    /// A folder of `/proc`, `/sys` and the like.
    #[error("{path} belongs to the kernel: nothing can be copied into it")]
    KernelFiles {
        /// the path
        path: String,
    },
    /// An owner that a container's user namespace does not have.
    #[error("user {uid} and group {gid} have no place in the container's user namespace")]
    NoSuchOwner {
        /// inside
        uid: u32,
        /// inside
        gid: u32,
    },
    /// A limit of [`crate::Limits`].
    #[error("{what} is beyond the limit of {limit}; raise it in the configuration if the archive is to be trusted")]
    Limit {
        /// what grew too large
        what: &'static str,
        /// the limit
        limit: u64,
    },
    /// An image archive lacks something or contradicts itself.
    #[error("invalid image archive: {reason}")]
    BadArchive {
        /// what is wrong
        reason: String,
    },
    /// An image archive has images for other platforms alone.
    #[error("the image archive has no image for {wanted}, only for {}", .offered.join(", "))]
    OtherPlatform {
        /// `os/architecture/variant`
        wanted: String,
        /// what it has
        offered: Vec<String>,
    },
    /// A folder that was to be removed as nobody's.
    #[error("{path} has an owner and is not removed")]
    OwnedFolder {
        /// relative to the root
        path: PathBuf,
    },
    /// An image configuration or manifest that cannot be used.
    #[error("invalid image {id}: {reason}")]
    BadImage {
        /// its id
        id: Digest,
        /// what is wrong
        reason: String,
    },
    /// A file of a layer changed after it was unpacked: the exact archive cannot be rebuilt.
    #[error("layer {chain} was changed on disk ({path}: {reason}); remove the image and pull it again")]
    LayerDamaged {
        /// layer
        chain: ChainId,
        /// which file, relative to the layer
        path: String,
        /// what is wrong
        reason: &'static str,
    },
    /// Work that another task did for us failed; its own error was reported there.
    #[error("unpacking layer {chain} failed in another operation")]
    OtherFailed {
        /// layer
        chain: ChainId,
    },
    /// A layer was to have a size where nothing can hold it to that.
    #[error(
        "--storage-opt size is not supported by the file system of {path} ({filesystem}): {needs}",
        path = path.display()
    )]
    NoQuotas {
        /// a folder on it
        path: PathBuf,
        /// its name
        filesystem: &'static str,
        /// what would have to be so
        needs: &'static str,
    },
    /// Every project of our range is in use.
    #[error(
        "all {count} projects for writable layers with a size are in use; remove containers with --storage-opt size"
    )]
    NoProjectLeft {
        /// how many there are
        count: u32,
    },
    /// The store is going away.
    #[error("the store is shutting down")]
    Closed,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::OwnedFolder { .. } | Error::NoProjectLeft { .. } => Kind::Conflict,
            Error::NoQuotas { .. } => Kind::Unsupported,
            Error::NoSuchImage { .. }
            | Error::NoSuchLayer { .. }
            | Error::NoSuchSnapshot { .. }
            | Error::NoSuchFile { .. } => Kind::NotFound,
            Error::ReadOnlyPlace { .. } => Kind::Forbidden,
            Error::ImageHasNames { .. } | Error::SnapshotExists { .. } | Error::Locked { .. } => Kind::Conflict,
            Error::Limit { .. } => Kind::TooLarge,
            Error::NoRoomForRecord { .. } => Kind::NoSpace,
            Error::Io { source, .. } | Error::Unpack { source, .. } => match source.raw_os_error() {
                Some(nix::libc::ENOSPC | nix::libc::EDQUOT) => Kind::NoSpace,
                _ => Kind::Internal,
            },
            // Damaged, or broken off: the sender's matter.
            Error::Source { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Kind::Invalid
            }
            Error::BadDigestText { .. }
            | Error::NotAFolder { .. }
            | Error::KernelFiles { .. }
            | Error::NoSuchOwner { .. }
            | Error::AmbiguousImage { .. }
            | Error::BadSnapshotId { .. }
            | Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::UnsupportedCompression { .. }
            | Error::Decompress { .. }
            | Error::BadEntry { .. }
            | Error::BadTar { .. }
            | Error::BadArchive { .. }
            | Error::OtherPlatform { .. }
            | Error::BadImage { .. } => Kind::Invalid,
            Error::Source { .. }
            | Error::Sink { .. }
            | Error::Metadata { .. }
            | Error::BadRecord { .. }
            | Error::LayerDamaged { .. }
            | Error::OtherFailed { .. }
            | Error::Closed => Kind::Internal,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { what, path, source }
    }

    pub(crate) fn sys(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(nix::errno::Errno) -> Error {
        let path = path.as_ref().to_owned();
        move |errno| Error::Io {
            what,
            path,
            source: errno.into(),
        }
    }
}
