use super::*;

fn written(shell: Shell, value: Option<&str>) -> Result<String, ShellError> {
    let value = value.map(str::to_owned);
    shell.write(&[Variable { name: "NO_PROXY".into(), value }], false)
}

#[test]
fn each_form_says_what_its_reader_takes_for_the_same_text() {
    let value = "a'b\"c$d`e\\f g=h\u{2019}";
    let check = |shell, expected: &str| {
        assert_eq!(written(shell, Some(value)).unwrap(), expected, "{shell:?}");
    };
    check(Shell::Sh, "export NO_PROXY='a'\\''b\"c$d`e\\f g=h\u{2019}'\n");
    check(Shell::Fish, "set -gx NO_PROXY 'a\\'b\"c$d`e\\\\f g=h\u{2019}'\n");
    check(Shell::Powershell, "$env:NO_PROXY = 'a''b\"c$d`e\\f g=h\u{2019}\u{2019}'\n");
    check(Shell::Docker, "NO_PROXY=a'b\"c$d`e\\f g=h\u{2019}\n");
    check(Shell::Github, "NO_PROXY=a'b\"c$d`e\\f g=h\u{2019}\n");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: egret-env\ndata:\n";
    let line = "  NO_PROXY: \"a'b\\\"c$d`e\\\\f g=h\u{2019}\"\n";
    check(Shell::K8s, &format!("{map}{line}"));
}

#[test]
fn a_quote_that_env_files_do_not_agree_on_is_refused() {
    assert_eq!(written(Shell::Dotenv, Some("a\"$b")).unwrap(), "NO_PROXY='a\"$b'\n");
    let refused = written(Shell::Dotenv, Some("a'b"));
    let said = "NO_PROXY holds a single quote, which no reader of .env files takes like another";
    assert_eq!(refused.unwrap_err().to_string(), said);
}

#[test]
fn what_would_end_a_line_is_refused_in_every_form() {
    for shell in Shell::value_variants() {
        for value in ["a\nB=c", "a\rb", "a\0b", "\u{1b}[2J", "a\u{85}b"] {
            let refused = written(*shell, Some(value));
            assert!(matches!(refused, Err(ShellError::Control { .. })), "{shell:?} {value:?}");
        }
        assert!(written(*shell, Some("a b")).is_ok(), "{shell:?}");
    }
}

#[test]
fn a_shell_takes_a_variable_back_and_a_file_cannot() {
    let check = |shell, expected: Option<&str>| {
        assert_eq!(written(shell, None).ok().as_deref(), expected, "{shell:?}");
    };
    check(Shell::Sh, Some("unset NO_PROXY\n"));
    check(Shell::Fish, Some("set -e NO_PROXY\n"));
    check(Shell::Powershell, Some("Remove-Item Env:NO_PROXY -ErrorAction SilentlyContinue\n"));
    for shell in [Shell::Dotenv, Shell::Docker, Shell::Github, Shell::K8s] {
        check(shell, None);
    }
}

#[test]
fn what_holds_a_token_is_a_secret_to_kubernetes() {
    let text = Shell::K8s.write(&[], true).unwrap();
    assert!(text.contains("kind: Secret\n") && text.ends_with("stringData:\n"), "{text}");
}
