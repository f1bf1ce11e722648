//! `completion`: scripts for bash, zsh and fish. They know nothing: for each word they ask `iechor __complete`.

use crate::cli::Cli;
use crate::complete::{COMMAND, FILES};
use crate::failure::{Result, fail};
use crate::output;

/// Print the completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # For this shell
  source <(iechor completion bash)

  # For every shell to come
  iechor completion bash > /etc/bash_completion.d/iechor
  iechor completion zsh > \"${fpath[1]}/_iechor\"
  iechor completion fish > ~/.config/fish/completions/iechor.fish")]
pub struct Args {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", required = true)]
    shell: String,
}

const BASH: &str = r#"# bash completion for iechor
_iechor() {
    local IFS=$'\n' line word="${COMP_WORDS[COMP_CWORD]}"
    local -a words=()
    # bash takes names apart at colons and equal signs: they are put together again from the line itself.
    # (By printf: the echo that xargs runs by itself takes -e and -n for its own.)
    read -r -d '' -a words < <(printf '%s' "${COMP_LINE:0:COMP_POINT}" | xargs -n 1 printf '%s\n' 2>/dev/null)
    [[ "${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
    local whole="${words[${#words[@]}-1]}"
    COMPREPLY=()
    while read -r line; do
        line="${line%%$'\t'*}"
        if [[ "$line" == "@FILES@" ]]; then
            compopt -o filenames 2>/dev/null
            COMPREPLY+=($(compgen -f -- "$word"))
        else
            # Only what follows what bash takes for the word.
            COMPREPLY+=("${line#"${whole%"$word"}"}")
        fi
    done < <("${words[0]}" @COMMAND@ "${words[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == --*= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _iechor iechor
"#;

const ZSH: &str = r#"#compdef iechor
_iechor() {
    local line
    local -a found about
    # Not by _call_program: it makes one line of the words and evaluates that, whatever somebody has typed there.
    for line in "${(@f)$("${(Q)words[1]}" @COMMAND@ "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z "$line" ]] && continue
        if [[ "$line" == "@FILES@" ]]; then
            _files
            continue
        fi
        found+=("${line%%$'\t'*}")
        about+=("${line/$'\t'/ -- }")
    done
    (( ${#found} )) && compadd -l -d about -a found
}
if [[ "$funcstack[1]" == "_iechor" ]]; then _iechor "$@"; else compdef _iechor iechor; fi
"#;

const FISH: &str = r#"# fish completion for iechor
function __iechor_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] @COMMAND@ $words[2..-1] 2>/dev/null)
        if test "$line" = "@FILES@"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c iechor -f -a '(__iechor_complete)'
"#;

pub async fn run(_: &Cli, args: Args) -> Result {
    let script = match args.shell.as_str() {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        other => fail!("there are no completions for {other:?}: use bash, zsh or fish"),
    };
    output::print(&script.replace("@COMMAND@", COMMAND).replace("@FILES@", FILES));
    Ok(())
}
