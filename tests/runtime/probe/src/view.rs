//! What only a process inside of a container can say of it; then it waits, to be looked at from outside.

use std::io::{self, Read, Write};

/// `see [sysctl=PATH] [mkdir=PATH] [-- WORDS...]`: one line per answer, the last one is `end`. Lives until the end of its
/// standard input.
pub fn see(arguments: &[String]) -> io::Result<()> {
    let names = nix::sys::utsname::uname()?;
    let mut out = format!(
        "hostname {}\ndomainname {}\n",
        names.nodename().display(),
        names.domainname().display()
    );
    for question in arguments.iter().take_while(|word| *word != "--") {
        let answer = match question.split_once('=') {
            Some(("sysctl", path)) => std::fs::read_to_string(format!("/proc/sys/{path}")),
            Some(("mkdir", path)) => std::fs::create_dir(path).map(|()| String::new()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        let answer = answer.unwrap_or_else(|error| super::facts::errno(&error));
        out.push_str(&format!("{question} {}\n", answer.trim().replace('\n', " ")));
    }
    out.push_str("end\n");
    io::stdout().write_all(out.as_bytes())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// `nothing`: a hook that succeeds.
pub fn nothing(_: &[String]) -> io::Result<()> {
    Ok(())
}
