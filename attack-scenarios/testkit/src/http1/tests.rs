use super::*;

fn one_request(data: &[u8]) -> Message {
    let mut all = requests(data);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn an_ordinary_request_is_complete_and_not_odd() {
    let message = one_request(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!((message.method(), message.target()), (&b"POST"[..], &b"/a"[..]));
    assert_eq!(message.body, b"ok");
    assert!(message.complete && !message.odd_framing && !message.odd_chunks);
}

#[test]
fn both_framings_are_followed_as_chunked_and_noted() {
    let message = one_request(
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    );
    assert!(message.complete && message.odd_framing);
    assert_eq!(message.body, b"x");
}

#[test]
fn odd_chunks_are_noted_and_their_nearest_strict_form_is_not() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let odd =
        ["0x1\r\nx\r\n0\r\n\r\n", "1\nx\r\n0\r\n\r\n", " 1\r\nx\r\n0\r\n\r\n", "1\r\nx0\r\n\r\n"];
    for chunks in odd {
        let message = one_request(format!("{head}{chunks}").as_bytes());
        assert!(message.odd_chunks, "{chunks:?}");
    }
    let strict = one_request(format!("{head}1;a=b\r\nx\r\n0\r\nT: v\r\n\r\n").as_bytes());
    assert!(strict.complete && !strict.odd_chunks && strict.chunk_extension);
    assert_eq!(values(&strict.trailers, "t"), [b"v"]);
}

#[test]
fn pipelined_requests_are_told_apart() {
    let all = requests(b"GET /1 HTTP/1.1\n\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT");
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].target(), b"/2");
}

#[test]
fn responses_know_which_requests_have_no_body() {
    let data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 403 egress.x 01J\r\nContent-Length: 1\r\n\r\n!";
    let all = responses(data, &[b"HEAD".to_vec(), b"GET".to_vec()], false);
    assert_eq!(all.iter().map(Message::status).collect::<Vec<_>>(), [100, 200, 403]);
    assert_eq!(all[2].reason(), "egress.x 01J");
    assert_eq!(all[2].body, b"!");
}

#[test]
fn a_body_until_close_is_complete_only_when_closed() {
    let data = b"HTTP/1.0 200 OK\r\n\r\nabc";
    assert!(!responses(data, &[], false)[0].complete);
    assert!(responses(data, &[], true)[0].complete);
}

#[test]
fn what_is_not_a_status_line_has_no_status() {
    for start in ["HTTP/1.1 1000 X", "ICY 200 OK", "HTTP/1.1  200", "HTTP/1.1 2x0 OK", "evil"] {
        let message = Message { start: start.into(), ..Message::default() };
        assert_eq!(message.status(), 0, "{start}");
    }
    let message = Message { start: b"HTTP/1.1 204".to_vec(), ..Message::default() };
    assert_eq!(message.status(), 204);
}

#[test]
fn an_overflowing_chunk_never_ends() {
    let data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF0\r\nevil";
    let message = &responses(data, &[], true)[0];
    assert!(!message.complete && message.odd_chunks);
    assert_eq!(message.body, b"evil");
}
