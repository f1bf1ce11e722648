//! Single attempts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use runtime_sys::handles::Handle;
use runtime_sys::{keys, privilege};

use crate::facts::errno;

/// What an attack appends to a program of the host. An ELF file does not mind, so that a success harms nothing else.
const MARK: &[u8] = b"overwritten by the container";

fn split(arguments: &[String]) -> (&[String], &[String]) {
    let at = arguments
        .iter()
        .position(|word| word == "--")
        .unwrap_or(arguments.len());
    (&arguments[..at], arguments.get(at + 1..).unwrap_or_default())
}

fn become_program(words: &[String]) -> io::Result<()> {
    let program = words.first().ok_or(io::ErrorKind::InvalidInput)?;
    Err(Command::new(program).args(&words[1..]).exec())
}

/// `write-open PATH...`: whether each may be opened for writing. Nothing is written.
pub fn write_open(paths: &[String]) -> io::Result<()> {
    for path in paths {
        match OpenOptions::new()
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
        {
            Ok(_) => println!("{path}: opened"),
            Err(error) => println!("{path}: {}", errno(&error)),
        }
    }
    Ok(())
}

/// `read-open PATH...`: whether each may be opened for reading.
pub fn read_open(paths: &[String]) -> io::Result<()> {
    for path in paths {
        match OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
        {
            Ok(_) => println!("{path}: opened"),
            Err(error) => println!("{path}: {}", errno(&error)),
        }
    }
    Ok(())
}

/// `overwrite PATH SECONDS`: opens a program and writes to it as soon as nobody executes it any more.
pub fn overwrite(arguments: &[String]) -> io::Result<()> {
    let path = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let seconds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let held = File::open(path)?;
    println!("overwrite: {}", overwrite_held(&held, Duration::from_secs(seconds)));
    Ok(())
}

/// Tries to write to a program through a descriptor that has it open for reading.
pub fn overwrite_held(held: &File, patience: Duration) -> String {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let end = Instant::now() + patience;
    loop {
        let error = match OpenOptions::new().append(true).open(&path) {
            Ok(mut file) => match file.write_all(MARK) {
                Ok(()) => return "WRITTEN".to_owned(),
                Err(error) => error,
            },
            Err(error) => error,
        };
        // ETXTBSY passes when the last process executes something else.
        if error.raw_os_error() != Some(nix::libc::ETXTBSY) || Instant::now() > end {
            return errno(&error);
        }
    }
}

/// `inherited`, as the tests' own dynamic loader starts it: the runtime's program is open, and nobody executes it any
/// more.
pub fn inherited(_: &[String]) -> io::Result<()> {
    let report = |text: &str| {
        let file = OpenOptions::new().create(true).append(true).open("/loot");
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{text}");
        }
    };
    for number in 3..64 {
        let path = format!("/proc/self/fd/{number}");
        if let Ok(held) = File::open(&path) {
            let target = std::fs::read_link(&path).unwrap_or_default();
            let outcome = overwrite_held(&held, Duration::from_secs(2));
            report(&format!("loaded for {}: {outcome}", target.display()));
        }
    }
    Ok(())
}

/// `unshare user,mount,pid,net,cgroup -- PROGRAM...`; with `user` the caller becomes its root.
pub fn unshare(arguments: &[String]) -> io::Result<()> {
    let (kinds, words) = split(arguments);
    let mut flags = CloneFlags::empty();
    for kind in kinds.iter().flat_map(|kinds| kinds.split(',')) {
        flags |= match kind {
            "user" => CloneFlags::CLONE_NEWUSER,
            "mount" => CloneFlags::CLONE_NEWNS,
            "pid" => CloneFlags::CLONE_NEWPID,
            "net" => CloneFlags::CLONE_NEWNET,
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
    }
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::sched::unshare(flags)?;
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    if flags.contains(CloneFlags::CLONE_NEWPID) {
        let program = words.first().ok_or(io::ErrorKind::InvalidInput)?;
        Command::new(program).args(&words[1..]).status()?;
        return Ok(());
    }
    become_program(words)
}

/// `mount SOURCE TARGET TYPE FLAGS DATA`, with flags of `bind,remount,ro,rec`.
pub fn mount(arguments: &[String]) -> io::Result<()> {
    let word = |index: usize| arguments.get(index).map(String::as_str).filter(|word| !word.is_empty());
    let mut flags = MsFlags::empty();
    for flag in word(3).unwrap_or_default().split(',') {
        flags |= match flag {
            "bind" => MsFlags::MS_BIND,
            "remount" => MsFlags::MS_REMOUNT,
            "ro" => MsFlags::MS_RDONLY,
            "rec" => MsFlags::MS_REC,
            _ => MsFlags::empty(),
        };
    }
    let target = word(1).ok_or(io::ErrorKind::InvalidInput)?;
    nix::mount::mount(word(0), target, word(2), flags, word(4))?;
    println!("mount: {target}: mounted");
    Ok(())
}

/// `key-with NAME PAYLOAD -- PROGRAM...`: runs a program with a key in its new session keyring.
pub fn key_with(arguments: &[String]) -> io::Result<()> {
    let (key, words) = split(arguments);
    let [name, payload] = key else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    privilege::leave_session_keyring()?;
    keys::add_to_session(name, payload.as_bytes())?;
    become_program(words)
}

/// `key-find NAME`: prints what the key holds.
pub fn key_find(arguments: &[String]) -> io::Result<()> {
    let name = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let payload = keys::read(keys::search_session(name)?)?;
    println!("key-find: {}", String::from_utf8_lossy(&payload));
    Ok(())
}

/// `handle PATH`: opens a file and the file system's root by handle, out of a path that is mounted from there.
pub fn handle(arguments: &[String]) -> io::Result<()> {
    let path = Path::new(arguments.first().ok_or(io::ErrorKind::InvalidInput)?);
    let mount = File::open(path)?;
    let show = |what: &str, result: io::Result<_>| match result {
        Ok(_) => println!("{what}: opened"),
        Err(error) => println!("{what}: {}", errno(&error)),
    };
    show(
        "by path",
        Handle::of_path(path).and_then(|handle| handle.open(mount.as_fd())),
    );
    show("root of the file system", Handle::of_inode(2).open(mount.as_fd()));
    Ok(())
}

/// `type TEXT`: puts a line into the input of the terminal at descriptor 0, after trying to take it over.
pub fn type_into_terminal(arguments: &[String]) -> io::Result<()> {
    let text = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let terminal = io::stdin();
    match runtime_sys::pty::take_control(&terminal) {
        Ok(()) => println!("terminal: taken"),
        Err(error) => println!("terminal: {}", errno(&error)),
    }
    for byte in text.bytes().chain([b'\n']) {
        runtime_sys::pty::inject(terminal.as_fd(), byte)?;
    }
    println!("type: typed");
    Ok(())
}

/// `chroot PATH`: out of a chroot with a second one, then up, then prints the file.
pub fn chroot_escape(arguments: &[String]) -> io::Result<()> {
    let path = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let _ = std::fs::create_dir("/tmp/second-root");
    nix::unistd::chroot("/tmp/second-root")?;
    // The working directory is still outside of the new root: `..` has nothing to stop at.
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    nix::unistd::chroot(".")?;
    println!("chroot: {}", std::fs::read_to_string(path)?);
    Ok(())
}

/// `forks`: as many processes as there may be, which all go on doing so until they are killed.
pub fn forks(_: &[String]) -> io::Result<()> {
    let mut children = 0;
    loop {
        match Command::new("/bin/probe").arg("forks").spawn() {
            Ok(_) => children += 1,
            Err(error) => {
                if children > 0 {
                    println!("forks: {}", errno(&error));
                }
                children = 0;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// `zombies COUNT`: children that nobody waits for, then sleeps.
pub fn zombies(arguments: &[String]) -> io::Result<()> {
    let count = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut children = Vec::new();
    for _ in 0..count {
        match Command::new("/bin/true").spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                println!("zombies: {}", errno(&error));
                break;
            }
        }
    }
    println!("zombies: {}", children.len());
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// `connect NAME`: to an abstract socket.
pub fn connect_abstract(arguments: &[String]) -> io::Result<()> {
    let name = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let address = SocketAddr::from_abstract_name(name)?;
    let _stream = UnixStream::connect_addr(&address)?;
    println!("connect: connected");
    Ok(())
}

/// `kernel`: calls that change the whole machine, made so that they would change nothing.
pub fn kernel_calls(_: &[String]) -> io::Result<()> {
    use nix::time::{ClockId, clock_gettime, clock_settime};
    let show = |what: &str, result: nix::Result<()>| match result {
        Ok(()) => println!("{what}: worked"),
        Err(error) => println!("{what}: {error:?}"),
    };
    let clock = ClockId::CLOCK_REALTIME;
    show(
        "set the clock",
        clock_gettime(clock).and_then(|now| clock_settime(clock, now)),
    );
    let name = nix::unistd::gethostname().unwrap_or_default();
    show("set the host's name", nix::unistd::sethostname(name));
    show(
        "mount",
        nix::mount::mount(Some("none"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>),
    );
    show("pivot_root", nix::unistd::pivot_root("/", "/tmp"));
    let kinds = [
        ("mount namespace", CloneFlags::CLONE_NEWNS),
        ("network namespace", CloneFlags::CLONE_NEWNET),
        ("cgroup namespace", CloneFlags::CLONE_NEWCGROUP),
    ];
    for (what, flag) in kinds {
        show(what, nix::sched::unshare(flag));
    }
    Ok(())
}
