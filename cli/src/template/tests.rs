#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

struct Labels;
impl Methods for Labels {
    fn call(&self, receiver: &Value, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::String(key)]) => Some(receiver["L"][key].clone()),
            _ => None,
        }
    }
}

fn data() -> Value {
    json!({
        "Name": "/web", "N": 3, "F": 1.5, "Yes": true, "Null": null, "Empty": [],
        "List": ["a", "b", "c"], "Map": {"z": "26", "a": "1"}, "L": {"x.y": "v"},
        "State": {"Status": "running", "Pid": 42},
        "Net": {"bridge": {"IP": "172.17.0.2"}},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "90/tcp": null}
    })
}

fn render(text: &str) -> String {
    match Template::parse(text).and_then(|template| template.render(&data(), &Labels)) {
        Ok(text) => text,
        Err(error) => format!("! {error}"),
    }
}

/// Thirty of the lines were compared with what docker's client (Go's package) prints for the same data. The others differ
/// there only because it reads untyped JSON: numbers are strings to it, lists have no type, keys are sorted.
#[test]
fn templates_print_what_go_prints() {
    for (template, want) in [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{ .State.Pid }}x", "42x"),
        (
            "{{.Null}} {{.Empty}} {{.List}} {{.Map}}",
            "<no value> [] [a b c] map[a:1 z:26]",
        ),
        (
            "{{json .Map}} {{json .Name}} {{.List | json}}",
            r#"{"z":"26","a":"1"} "/web" ["a","b","c"]"#,
        ),
        ("{{if .Yes}}y{{else}}n{{end}}{{if .Null}}y{{else}}n{{end}}", "yn"),
        ("{{if eq .N 1}}1{{else if eq .N 3}}3{{else}}?{{end}}", "3"),
        ("{{range .List}}{{.}},{{end}}", "a,b,c,"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=a 1=b 2=c "),
        ("{{range $k, $v := .Map}}{{$k}}:{{$v}};{{end}}", "a:1;z:26;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            "{{with .State}}{{.Status}}{{end}}{{with .Null}}x{{else}}-{{end}}",
            "running-",
        ),
        ("{{with $x := .Name}}{{$x}}{{end}}", "/web"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{range .List}}{{$.Name}}{{end}}", "/web/web/web"),
        (
            "{{index .List 1}} {{index .Map \"z\"}} [{{index .Map \"q\"}}]",
            "b 26 []",
        ),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{len .List}} {{len .Map}} {{len .Name}}", "3 2 4"),
        (
            "{{printf \"%s-%d|%5s|%-5s|%05d|%q|%v|%x|%.2f\" .Name .N \"a\" \"b\" 42 \"c\" .List 255 .F}}",
            "/web-3|    a|b    |00042|\"c\"|[a b c]|ff|1.50",
        ),
        (
            "{{printf \"%d\" \"x\"}} {{printf \"%d\"}} {{printf \"a\" 1}}",
            "%!d(string=x) %!d(MISSING) a%!(EXTRA int=1)",
        ),
        (
            "{{upper .Name}} {{lower \"ABC\"}} {{title \"hello world\"}}",
            "/WEB abc Hello World",
        ),
        ("{{join .List \"-\"}} {{index (split \"a/b\" \"/\") 1}}", "a-b-c b"),
        ("{{truncate .Name 2}}|{{pad \"x\" 1 2}}|{{pad \"\" 1 1}}|", "/w| x  ||"),
        ("{{and .Yes .N}} {{or .Null .Name}} {{not .Yes}}", "3 /web false"),
        (
            "{{eq .N 1 2 3}} {{ne .N 3}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
            "true false true true",
        ),
        ("{{println .Name .N}}|{{print 1 2 \"a\" \"b\" 3}}", "/web 3\n|1 2ab3"),
        ("{{.Name | printf \"%s%s\" \"a\" | upper}}", "A/WEB"),
        ("{{slice .Name 1 3}} {{slice .List 1}}", "we [b c]"),
        ("a {{- .N -}} b {{/* note */}}{{- /* x */ -}} c", "a3b c"),
        ("{{`raw \\n`}} {{\"q\\t\\u00e9\"}} {{'a'}}", "raw \\n q\té 97"),
        ("{{1.5}} {{0x10}} {{-3}} {{1e3}}", "1.5 16 -3 1000"),
        (
            "{{html \"<a&'>\"}} {{urlquery \"a b/c\"}}",
            "&lt;a&amp;&#39;&gt; a+b%2Fc",
        ),
        ("{{.Label \"x.y\"}}", "v"),
        ("{{range $n, $c := .Net}}{{$n}} {{$c.IP}}{{end}}", "bridge 172.17.0.2"),
    ] {
        assert_eq!(render(template), want, "{template}");
    }
}

#[test]
fn wrong_templates_are_refused_with_a_reason() {
    for (template, reason) in [
        ("{{", "unclosed action"),
        ("{{.Name", "unclosed action"),
        ("{{if .Name}}x", "without {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{nofunc .}}", "function \"nofunc\" not defined"),
        ("{{.Nope}}", "map has no entry for key \"Nope\""),
        ("{{.Name.First}}", "can't evaluate field First in type string"),
        ("{{index .List 9}}", "index out of range: 9"),
        ("{{index .Null 0}}", "index of untyped nil"),
        ("{{.Name \"x\"}}", "not a method"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{}}", "missing value"),
        ("{{. | }}", "missing value"),
        ("{{$nope}}", "undefined variable"),
        ("{{template \"x\"}}", "not supported"),
        ("{{break}}", "outside {{range}}"),
        ("{{eq .Name .N}}", "incompatible types"),
        ("{{range .N}}{{end}}{{range .Name}}{{end}}", "can't iterate"),
    ] {
        let got = render(template);
        assert!(
            got.starts_with("! template parsing error: ") && got.contains(reason),
            "{template}: {got}"
        );
    }
    let deep = "{{".to_owned() + &"(".repeat(5000) + "1" + &")".repeat(5000) + "}}";
    assert!(render(&deep).contains("too many nested"));
    let blocks = "{{if 1}}".repeat(5000);
    assert!(render(&blocks).contains("too many nested"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\{\\{|\\}\\}|[-.$|()a-z0-9\"'` :=,é]|if |range |end|else|\\.N|printf ){0,24}") {
        let _ = render(&text);
    }

    #[test]
    fn text_without_actions_is_itself(text in "[^{]{0,40}") {
        prop_assert_eq!(render(&text), text);
    }
}
