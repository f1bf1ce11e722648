//! What a hostile program does that busybox cannot: a static program that tests put into a container's rootfs.
//!
//! It says on standard output what worked and what did not, with the name of the error; a test judges that.
#![forbid(unsafe_code)]

mod attacks;
mod facts;
mod view;
mod watch;

use std::process::ExitCode;

type Action = fn(&[String]) -> std::io::Result<()>;

const ACTIONS: &[(&str, Action)] = &[
    ("fds", facts::descriptors),
    ("see", view::see),
    ("nothing", view::nothing),
    ("write-open", attacks::write_open),
    ("read-open", attacks::read_open),
    ("overwrite", attacks::overwrite),
    ("inherited", attacks::inherited),
    ("unshare", attacks::unshare),
    ("mount", attacks::mount),
    ("key-with", attacks::key_with),
    ("key-find", attacks::key_find),
    ("handle", attacks::handle),
    ("type", attacks::type_into_terminal),
    ("chroot", attacks::chroot_escape),
    ("forks", attacks::forks),
    ("zombies", attacks::zombies),
    ("connect", attacks::connect_abstract),
    ("kernel", attacks::kernel_calls),
    ("watch-exe", watch::executables),
    ("spy", watch::spy),
    ("assassin", watch::assassin),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("", String::as_str);
    let Some((_, action)) = ACTIONS.iter().find(|(known, _)| *known == name) else {
        eprintln!("no action is called {name:?}");
        return ExitCode::from(2);
    };
    match action(arguments.get(1..).unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{name}: {}", facts::errno(&error));
            ExitCode::FAILURE
        }
    }
}
