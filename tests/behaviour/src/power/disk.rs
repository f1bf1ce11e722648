//! A disk that remembers: what was written to it in which order, and when it was told to make it durable.
//!
//! ```text
//! ext4 ─▶ loop device ─▶ a FUSE file, served here ─▶ written at once to `now`, and noted: write, write, flush, write …
//!
//! image of a cut:  base + all writes before the last flush before the cut + some of the 4 KiB blocks written since
//! ```
//!
//! A disk with a cache may have kept any of what was not flushed, in any order, and so may the image. The file has no
//! other cache: FUSE writes through, and a loop device passes the file system's flushes on as `fsync`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};
use harness::process::Run;
use harness::tools::eventually;
use rand::RngExt;
use rand::rngs::StdRng;

/// A disk keeps or loses no less than this at once.
const BLOCK: usize = 4096;

/// For how long the kernel may remember what the disk looks like.
const EVER: Duration = Duration::from_secs(3600);

enum Event {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

struct Shared {
    now: File,
    events: Mutex<Vec<Event>>,
}

struct Served {
    shared: Arc<Shared>,
    size: u64,
}

/// The disk while it is in use.
pub struct Recorder {
    folder: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

/// What was recorded.
pub struct Recording {
    folder: PathBuf,
    events: Vec<Event>,
    /// How many events are in the file `durable`.
    applied: usize,
}

/// Runs a program of the host.
pub fn host(program: &str, arguments: &[&str]) {
    Run::new(program.as_ref(), arguments).output().ok();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an UTF-8 path")
}

/// Mounts a file that holds a file system.
pub fn mount(image: &Path, target: &Path) {
    host("mount", &["-o", "loop", text(image), text(target)]);
}

impl Recorder {
    /// An empty ext4 of this size; its files lie in `folder`.
    pub fn new(folder: &Path, megabytes: u64) -> Recorder {
        let (now, size) = (folder.join("now"), megabytes << 20);
        File::create(&now).unwrap().set_len(size).unwrap();
        host("mkfs.ext4", &["-q", "-E", "nodiscard", text(&now)]);
        copy(&now, &folder.join("durable"));
        let shared = Arc::new(Shared {
            now: File::options().read(true).write(true).open(&now).unwrap(),
            events: Mutex::default(),
        });
        let served = Served {
            shared: shared.clone(),
            size,
        };
        let point = folder.join("fuse");
        std::fs::create_dir(&point).unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("recorder".to_owned())];
        let session = fuser::spawn_mount(served, &point, &config).expect("a FUSE mount");
        Recorder {
            folder: folder.to_owned(),
            shared,
            session: Some(session),
        }
    }

    /// The disk, to be mounted.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("fuse/disk")
    }

    /// How much has happened so far. What is answered now was answered before everything that comes later.
    pub fn position(&self) -> usize {
        self.shared.events.lock().unwrap().len()
    }

    /// Ends the recording; the file system on it is unmounted.
    pub fn finish(mut self) -> Recording {
        let events = std::mem::take(&mut *self.shared.events.lock().unwrap());
        self.end();
        Recording {
            folder: self.folder.clone(),
            events,
            applied: 0,
        }
    }

    fn end(&mut self) {
        if let Some(session) = self.session.take() {
            let point = self.folder.join("fuse");
            // The loop device goes some time after the last mount of the file system on it.
            eventually("the recorder is not used any more", 20, || {
                nix::mount::umount2(&point, nix::mount::MntFlags::empty()) != Err(nix::errno::Errno::EBUSY)
            });
            drop(session);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// Copies a file and its holes.
fn copy(from: &Path, to: &Path) {
    host("cp", &["--sparse=always", text(from), text(to)]);
}

impl Recording {
    /// Count of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Count of flushes.
    pub fn flushes(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Flush)).count()
    }

    /// Makes the image of a disk that lost power after `cut` events and had kept each block that was not flushed with
    /// this likelihood. Cuts come in ascending order.
    pub fn image(&mut self, cut: usize, kept: f64, random: &mut StdRng) -> PathBuf {
        let last_flush = self.events[..cut]
            .iter()
            .rposition(|event| matches!(event, Event::Flush));
        let durable = self.folder.join("durable");
        let file = File::options().write(true).open(&durable).unwrap();
        let flushed = last_flush.map_or(0, |at| at + 1);
        for event in &self.events[self.applied..flushed] {
            if let Event::Write { at, bytes } = event {
                file.write_all_at(bytes, *at).unwrap();
            }
        }
        self.applied = flushed;
        // A file of its own each time: the mount of the one before may linger, and mount(8) would take its loop device,
        // with what that has in its cache, for a file that it knows.
        let image = self.folder.join(format!("cut-{}", harness::tools::tag()));
        copy(&durable, &image);
        let file = File::options().write(true).open(&image).unwrap();
        for event in &self.events[flushed..cut] {
            let Event::Write { at, bytes } = event else { continue };
            for (number, block) in bytes.chunks(BLOCK).enumerate() {
                if random.random_bool(kept) {
                    file.write_all_at(block, at + (number * BLOCK) as u64).unwrap();
                }
            }
        }
        image
    }
}

impl Served {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let folder = inode == INodeNo::ROOT;
        FileAttr {
            ino: inode,
            size: if folder { 0 } else { self.size },
            blocks: if folder { 0 } else { self.size / 512 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if folder {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: if folder { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: BLOCK as u32,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&EVER, &self.attributes(INodeNo(2)), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&EVER, &self.attributes(inode));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; (size as u64).min(self.size.saturating_sub(offset)) as usize];
        match self.shared.now.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.to_vec();
        // Noted before it is answered, so that whoever heard of it is behind it.
        let mut events = self.shared.events.lock().unwrap();
        if self.shared.now.write_all_at(&bytes, offset).is_err() {
            return reply.error(Errno::EIO);
        }
        events.push(Event::Write { at: offset, bytes });
        drop(events);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.shared.events.lock().unwrap().push(Event::Flush);
        reply.ok();
    }
}
