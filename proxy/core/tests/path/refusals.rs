//! What is recorded of what is refused before any rule is asked, or by how it was asked.

use serde_json::{Value, json};

use crate::{Claim, POLICY, counted::workers, scene::Stage};

pub(crate) const TRIALS: &[Claim] =
    &[("what_is_refused_early_is_recorded_with_all_that_was_read", early)];

/// A head, the status and code of its refusal, what ends it, and what the record has of it.
struct Early {
    head: &'static str,
    status: u16,
    code: &'static str,
    closed_by: &'static str,
    asked: Value,
}

fn early(stage: &Stage) {
    let strict = "[[rule]]\nid = \"strict\"\neffect = \"allow\"\nhosts = [\"strict.test\"]\n\
                  schemes = [\"http\"]\nports = [80]\npaths = [\"/open/**\"]\n";
    let (settings, known) = workers(&["w"]);
    let scene = stage.play_with(&format!("{POLICY}{strict}"), settings, known);
    let revision = scene.handle.revision().to_string();
    for Early { head, status, code, closed_by, asked } in table() {
        let reply = scene.client.request(head.as_bytes()).unwrap();
        let reason = reply.reason();
        let (told, id) = reason.split_once(' ').unwrap();
        assert_eq!((reply.status(), told), (status, code), "{head}");
        let completion = scene.record(head, |one| one["id"] == id && one["event"] == "completion");
        assert_eq!(completion["closed_by"], closed_by, "{head}");
        let records = scene.records();
        let both: Vec<_> = records.iter().filter(|one| one["id"] == id).collect();
        assert_eq!(both.len(), 2, "{head}");
        for record in both {
            assert_eq!(record["reason"], code, "{head}");
            assert_eq!(record["policy"], *revision, "{head}");
            let fields = ["method", "scheme", "host", "port", "path"].into_iter();
            let read: serde_json::Map<_, _> = fields
                .filter_map(|name| Some((name.to_owned(), record.get(name)?.clone())))
                .collect();
            assert_eq!(Value::Object(read), asked, "{head}");
        }
    }
    assert!(stage.origin.connections().is_empty());
}

fn table() -> Vec<Early> {
    let api = |method: &str| {
        json!({ "method": method, "scheme": "http", "host": "api.example.com", "port": 80,
                "path": "/x" })
    };
    vec![
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n: x\r\n\r\n",
            status: 400,
            code: "egress.request_malformed",
            closed_by: "error",
            asked: json!({}),
        },
        Early {
            head: "GET /x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 400,
            code: "egress.request_malformed",
            closed_by: "error",
            asked: json!({ "method": "GET" }),
        },
        Early {
            head: "GET http://a@api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 400,
            code: "egress.target_malformed",
            closed_by: "error",
            asked: json!({ "method": "GET" }),
        },
        // It counts for nobody, so its path must not fill the disk.
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: a@api.example.com\r\n\r\n",
            status: 400,
            code: "egress.request_malformed",
            closed_by: "error",
            asked: json!({ "method": "GET", "scheme": "http", "host": "api.example.com",
                           "port": 80 }),
        },
        Early {
            head: "TRACE http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.method_not_allowed",
            closed_by: "policy",
            asked: api("TRACE"),
        },
        Early {
            head: "track http://a@api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.method_not_allowed",
            closed_by: "policy",
            asked: json!({ "method": "track" }),
        },
        Early {
            head: "GET ftp://API.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.scheme_not_allowed",
            closed_by: "policy",
            asked: json!({ "method": "GET", "host": "api.example.com" }),
        },
        Early {
            head: "GET ftp://api.example.com:21?x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.scheme_not_allowed",
            closed_by: "policy",
            asked: json!({ "method": "GET", "host": "api.example.com", "port": 21 }),
        },
        Early {
            head: "GET ftp://u:secret@api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.scheme_not_allowed",
            closed_by: "policy",
            asked: json!({ "method": "GET" }),
        },
        Early {
            head: "GET https://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 403,
            code: "egress.scheme_not_allowed",
            closed_by: "policy",
            asked: json!({ "method": "GET", "scheme": "https", "host": "api.example.com",
                           "port": 443, "path": "/x" }),
        },
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
            status: 421,
            code: "egress.host_mismatch",
            closed_by: "policy",
            asked: api("GET"),
        },
        Early {
            head: "CONNECT api.example.com:443 HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
            status: 421,
            code: "egress.host_mismatch",
            closed_by: "policy",
            asked: json!({ "method": "CONNECT", "host": "api.example.com", "port": 443 }),
        },
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\
                   Via: 1.1 egret\r\n\r\n",
            status: 502,
            code: "egress.loop_detected",
            closed_by: "policy",
            asked: api("GET"),
        },
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            status: 407,
            code: "egress.identity_required",
            closed_by: "policy",
            asked: api("GET"),
        },
        Early {
            head: "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\
                   Proxy-Authorization: Bearer other\r\n\r\n",
            status: 407,
            code: "egress.identity_invalid",
            closed_by: "policy",
            asked: api("GET"),
        },
        // Its worker is known.
        Early {
            head: "GET http://strict.test/open/%2e HTTP/1.1\r\nHost: strict.test\r\n\
                   Proxy-Authorization: Bearer w\r\n\r\n",
            status: 400,
            code: "egress.target_malformed",
            closed_by: "error",
            asked: json!({ "method": "GET", "scheme": "http", "host": "strict.test", "port": 80,
                           "path": "/open/%2e" }),
        },
    ]
}
