use super::*;

#[test]
fn references_name_a_backend_and_cannot_climb() {
    for good in [
        "local:github",
        "file:token.txt",
        "aws:prod/github:token",
        "aws:arn:aws:secretsmanager:eu-west-1:1:secret:x:token",
        "vault:kv#ci/github:token",
        "vault:team/kv#a:b",
    ] {
        assert_eq!(SecretReference::parse(good).unwrap().to_string(), good);
    }
    let check = |bad: &str, fault: ReferenceFault| {
        assert_eq!(SecretReference::parse(bad), Err(fault), "{bad}");
    };
    use ReferenceFault::*;
    check("github", Backend);
    check("env:TOKEN", Backend);
    check("local:", Empty);
    check("vault:kv/ci/github:token", Empty);
    check("vault:kv#ci/github", Empty);
    check("vault:#ci:token", Empty);
    check("aws:name", Empty);
    check("local:a b", Character);
    check("vault:kv#ci?x:token", Character);
    check("file:a/b", Character);
    check("vault:kv#ci/../github:token", Segment);
    check("vault:kv#/ci:token", Segment);
    check("file:..", Segment);
}

#[test]
fn templates_hold_text_and_placeholders_and_no_other_braces() {
    for (text, has_secret) in [
        ("Bearer {secret}", true),
        ("{secret.access_key}", true),
        ("{secret.a}:{secret.b}", true),
        ("plain", false),
        ("", false),
    ] {
        let template = Template::parse(text).unwrap();
        assert_eq!((template.to_string().as_str(), template.has_secret()), (text, has_secret));
    }
    for bad in ["{", "}", "{}", "{token}", "{secret", "{secret.}", "{secret.a b}", "{{secret}}"] {
        assert_eq!(Template::parse(bad), Err(TemplateFault::Brace), "{bad}");
    }
    assert_eq!(Template::parse("a\r\n{secret}"), Err(TemplateFault::Character('\r')));
}
