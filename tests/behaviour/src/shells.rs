//! Completion in the shells themselves: what somebody who types sees. (What is offered where: `client`, through bash.)

use std::path::PathBuf;

use harness::process::Run;
use harness::pty::Terminal;
use harness::tools::{Folder, binaries, unpacked};
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![zsh_completes, fish_completes, completion_runs_nothing_that_was_typed]
}

/// A shell of `tests/setup` with its own libraries, a home where nothing is, and `iechor` on its path.
struct Shell {
    home: Folder,
    root: PathBuf,
}

impl Shell {
    fn new() -> Shell {
        Shell {
            home: Folder::new("shell"),
            root: unpacked("shells"),
        }
    }

    fn environment(&self, world: &World) -> Vec<(&'static str, String)> {
        let root = self.root.display();
        let path = std::env::var("PATH").unwrap();
        vec![
            ("HOME", self.home.path().display().to_string()),
            ("IECHOR_HOST", world.host().to_owned()),
            ("IECHOR_CONFIG", self.home.at("config")),
            (
                "LD_LIBRARY_PATH",
                format!("{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"),
            ),
            ("PATH", format!("{}:{path}", binaries().display())),
        ]
    }

    /// What fish offers behind a line: words, and what they are about behind a tab.
    fn fish(&self, world: &World, line: &str) -> Vec<String> {
        let functions = self.root.join("usr/share/fish/functions");
        let script = format!(
            "set fish_function_path {}; iechor completion fish | source; complete -C '{line}'",
            functions.display()
        );
        let program = self.root.join("usr/bin/fish");
        let run = Run::new(&program, &["--no-config", "-c", &script]);
        let run = self
            .environment(world)
            .into_iter()
            .fold(run, |run, (key, value)| run.env(key, &value));
        run.output().ok().lines().map(str::to_owned).collect()
    }

    /// zsh at its prompt, with a key (ctrl-x) that shows the line as it is now and empties it.
    fn zsh(&self, world: &World) -> Terminal {
        let zsh = self.root.join("bin/zsh").display().to_string();
        let environment = self.environment(world);
        let environment: Vec<String> = environment
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut words: Vec<&str> = environment.iter().map(String::as_str).collect();
        words.extend([zsh.as_str(), "-f", "-i"]);
        let mut terminal = Terminal::start("env".as_ref(), &words, 24, 200);
        let root = self.root.display();
        for line in [
            format!("module_path=({root}/usr/lib/*/zsh/*(/))"),
            format!("fpath=({root}/usr/share/zsh/functions/*(/) {root}/usr/share/zsh/functions/Completion/*(/))"),
            "autoload -Uz compinit; compinit -D -u; source <(iechor completion zsh)".to_owned(),
            "shown() { print -r -- \"<$BUFFER>\"; BUFFER=; zle reset-prompt }".to_owned(),
            "zle -N shown; bindkey '^X' shown; print rea''dy".to_owned(),
        ] {
            terminal.line(&line);
        }
        terminal.expect("ready");
        terminal
    }
}

fn zsh_completes(world: &World) {
    let shell = Shell::new();
    let mut terminal = shell.zsh(world);
    let (name, _) = world.sleeper(&[]);
    let most = &name[..name.len() - 1];
    for (typed, line) in [
        ("iechor pu", "iechor pull ".to_owned()),
        ("iechor run -e A=b --netw", "iechor run -e A=b --network".to_owned()),
        ("iechor run --network bri", "iechor run --network bridge ".to_owned()),
        (&format!("iechor logs {most}"), format!("iechor logs {} ", &*name)),
        // Nothing of the word is there yet.
        ("iechor context use ", "iechor context use default ".to_owned()),
        (
            "iechor run --env 'A=b c' busyb",
            "iechor run --env 'A=b c' busybox:latest ".to_owned(),
        ),
        ("iechor load -i /etc/passw", "iechor load -i /etc/passwd".to_owned()),
    ] {
        terminal.send(format!("{typed}\t\x18").as_bytes());
        terminal.expect("<");
        let shown = terminal.expect(">");
        assert_eq!(shown.trim_end(), line.trim_end(), "{typed}");
    }
    terminal.line("exit");
    terminal.finish();
}

fn fish_completes(world: &World) {
    let shell = Shell::new();
    let (name, _) = world.sleeper(&[]);
    let offered = |line: &str| -> Vec<String> {
        let lines = shell.fish(world, line);
        let word = |line: &String| line.split('\t').next().unwrap().to_owned();
        lines.iter().map(word).collect()
    };
    assert_eq!(offered("iechor pu"), ["pull"]);
    assert_eq!(offered("iechor run -e A=b --netw"), ["--network", "--network-alias"]);
    assert_eq!(
        offered(&format!("iechor logs {}", &name[..name.len() - 1])),
        [name.to_string()]
    );
    assert_eq!(offered("iechor context use "), ["default"]);
    assert!(offered("iechor load -i /etc/passw").contains(&"/etc/passwd".to_owned()));
    // With what each is about.
    let whole = shell.fish(world, "iechor pu");
    assert!(whole[0].contains("\tDownload"), "{whole:?}");
}

/// A line that is being typed is words, not a program.
fn completion_runs_nothing_that_was_typed(world: &World) {
    let shell = Shell::new();
    let file = shell.home.at("made");
    let lines = [
        format!("iechor run 'x; touch {file}' "),
        format!("iechor run --env \"\\$(touch {file})\" "),
        format!("iechor run '$(touch {file})' b"),
    ];
    let mut terminal = shell.zsh(world);
    for line in &lines {
        terminal.send(format!("{line}\t\x18").as_bytes());
        terminal.expect("<");
        terminal.expect(">");
        shell.fish(world, &line.replace('\'', "\\'"));
        crate::client::offered(world, line);
        assert!(!std::path::Path::new(&file).exists(), "{line}");
    }
    terminal.line("exit");
    terminal.finish();
}
