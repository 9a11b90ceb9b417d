//! The scripted name server, asked by hand.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream, UdpSocket},
    time::Duration,
};

use egret_testkit::dns::{ADDRESS, ELSEWHERE, Entry, Kind, Protocol, Zone};

use crate::{
    Claim, World,
    fixtures::{WAIT, contains},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("names_resolve_by_zone_and_are_logged", names_resolve_by_zone_and_are_logged),
    ("scripts_count_queries", scripts_count_queries),
    ("scripts_can_lie_in_every_way", scripts_can_lie_in_every_way),
    ("forged_answers_come_from_elsewhere", forged_answers_come_from_elsewhere),
    ("aliases_are_followed_within_the_script", aliases_are_followed_within_the_script),
    ("a_silent_server_is_silent", a_silent_server_is_silent),
];

fn names_resolve_by_zone_and_are_logged(world: &World) {
    assert_eq!(ask("api.example.com", Kind::A).addresses(), ["93.184.216.34"]);
    assert_eq!(ask("deep.www.Example.org", Kind::A).addresses(), ["93.184.216.35"]);
    let none = ask("api.example.com", Kind::Aaaa);
    assert_eq!((none.rcode(), none.addresses().len()), (0, 0));
    assert_eq!(ask("example.org", Kind::A).rcode(), 3);
    assert_eq!(ask("nobody.test", Kind::A).rcode(), 3);
    assert_eq!(world.dns.log().len(), 5);
    assert_eq!(world.dns.log()[1].name, "deep.www.example.org");

    world.dns.serve(&[("api.example.com", "10.0.0.1"), ("api.example.com", "fd00::1")]);
    assert_eq!(ask("api.example.com", Kind::A).addresses(), ["10.0.0.1"]);
    assert_eq!(ask("api.example.com", Kind::Aaaa).addresses(), ["fd00::1"]);
    assert_eq!(world.dns.names(), ["api.example.com"]);

    let mut stream = TcpStream::connect(ADDRESS).expect("a connection");
    let query = query("api.example.com", Kind::A);
    let length = u16::try_from(query.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).expect("sent");
    let mut reply = [0; 2];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(world.dns.log()[2].protocol, Protocol::Tcp);
}

fn scripts_count_queries(world: &World) {
    world.script(
        r#"[{"q": "a.test", "nth": 1, "answers": [{"type": "A", "data": "1.1.1.1"}]},
            {"q": "a.test", "nth": "2+", "answers": [{"type": "A", "data": "127.0.0.1"}]},
            {"q": "*.b.test", "nth": "odd", "answers": [{"type": "A", "data": "1.1.1.1"}]},
            {"q": "*.b.test", "nth": "even", "answers": [{"type": "A", "data": "10.0.0.1"}]},
            {"q": "r.test", "nth": "random50", "answers": [{"type": "A", "data": "1.1.1.1"}]},
            {"q": "r.test", "nth": "random50", "answers": [{"type": "A", "data": "10.0.0.1"}]}]"#,
    );
    let several = |name: &str, many: usize| -> Vec<String> {
        (0..many).flat_map(|_| ask(name, Kind::A).addresses()).collect()
    };
    assert_eq!(several("a.test", 3), ["1.1.1.1", "127.0.0.1", "127.0.0.1"]);
    assert_eq!(several("x.b.test", 3), ["1.1.1.1", "10.0.0.1", "1.1.1.1"]);
    assert!(several("b.test", 1).is_empty(), "a wildcard is not its own parent");
    let random = several("r.test", 16);
    assert_eq!(random.len(), 16);
    assert!(random.iter().any(|a| a == "1.1.1.1") && random.iter().any(|a| a == "10.0.0.1"));
    // Another type of the same name is counted apart, and not answered by a script of A.
    assert!(ask("a.test", Kind::Aaaa).addresses().is_empty());
}

fn scripts_can_lie_in_every_way(world: &World) {
    world.script(
        r#"[{"q": "tc.test", "proto": "udp", "tc": true},
            {"q": "fail.test", "rcode": "SERVFAIL"},
            {"q": "chain.test", "chain": 3, "final": "1.1.1.1"},
            {"q": "many.test", "a_count": 300, "proto": "tcp"},
            {"q": "short.test", "rdata_hex": "7f0000", "rdlength": 3},
            {"q": "raw.test", "raw_hex_suffix": "c00cc00c"},
            {"q": "long.test", "answer_name_len": 300},
            {"q": "odd.test", "answers": [{"name": "other.test", "type": "A", "data": "127.0.0.1"}],
             "authority": [{"type": "NS", "data": "ns.test"}],
             "additional": [{"name": "third.test", "type": "A", "data": "10.0.0.1", "ttl": -1}]},
            {"q": "svc.test", "qtype": "HTTPS", "answers": [{"type": "HTTPS", "priority": 1,
             "target": ".", "params": {"alpn": ["h3"], "port": 22, "ipv4hint": ["127.0.0.1"]}}]},
            {"q": "srv.test", "qtype": "SRV", "answers": [{"type": "SRV", "port": 22, "target": "x.test"}]},
            {"q": "txt.test", "qtype": "TXT", "answers": [{"type": "TXT", "size": 512}]},
            {"q": "late.test", "delay_ms": 120, "answers": [{"type": "A", "data": "1.1.1.1"}]}]"#,
    );
    assert_eq!(ask("tc.test", Kind::A).0[2] & 2, 2);
    assert_eq!(ask("fail.test", Kind::A).rcode(), 2);
    assert_eq!(ask("chain.test", Kind::A).count(), 4);
    assert_eq!(ask("many.test", Kind::A).count(), 300);
    assert!(ask("short.test", Kind::A).0.ends_with(&[0, 3, 0x7f, 0, 0]));
    assert!(ask("raw.test", Kind::A).0.ends_with(&[0xc0, 0x0c, 0xc0, 0x0c]));
    assert!(ask("long.test", Kind::A).0.len() > 300);
    let odd = ask("odd.test", Kind::A).0;
    assert_eq!((odd[9], odd[11]), (1, 1), "authority and additional are counted");
    assert!(contains(&odd, b"\x05third\x04test\0\0\x01\0\x01\xff\xff\xff\xff"));
    assert!(contains(&ask("svc.test", Kind::Https).0, b"\x02h3"));
    assert_eq!(ask("srv.test", Kind::Srv).count(), 1);
    assert!(ask("txt.test", Kind::Txt).0.len() > 512);
    let begin = std::time::Instant::now();
    assert_eq!(ask("late.test", Kind::A).addresses(), ["1.1.1.1"]);
    assert!(begin.elapsed() >= Duration::from_millis(120));
    let unknown = serde_json::from_str::<Vec<Entry>>(r#"[{"q": "a.test", "dnssec": "500 keys"}]"#);
    assert!(unknown.is_err(), "a word that the server cannot play is an error, not ignored");
}

fn forged_answers_come_from_elsewhere(world: &World) {
    for (forge, differs) in [("source", "source"), ("txid", "id"), ("question:evil.test", "name")] {
        world.script(&format!(
            r#"[{{"q": "f.test", "answers": [{{"type": "A", "data": "127.0.0.1"}}], "forge": "{forge}"}},
                {{"q": "f.test", "answers": [{{"type": "A", "data": "1.1.1.1"}}], "delay_ms": 30}}]"#
        ));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(WAIT)).expect("a time-out");
        socket.send_to(&query("f.test", Kind::A), ADDRESS).expect("sent");
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).expect("the forged answer");
        let forged = buffer[..length].to_vec();
        assert_eq!(from == ELSEWHERE, differs == "source");
        assert_eq!(forged[..2] != query("f.test", Kind::A)[..2], differs == "id");
        assert_eq!(contains(&forged[12..], b"\x04evil"), differs == "name");
        let (length, from) = socket.recv_from(&mut buffer).expect("the honest answer");
        assert_eq!(from, ADDRESS);
        assert_eq!(Reply(buffer[..length].to_vec()).addresses(), ["1.1.1.1"]);
    }
}

fn aliases_are_followed_within_the_script(world: &World) {
    world.script(
        r#"[{"q": "a.test", "answers": [{"type": "CNAME", "data": "db.internal"}]},
            {"q": "db.internal", "answers": [{"type": "A", "data": "10.0.0.5"}]},
            {"q": "quad.test", "answers": [{"type": "CNAME", "data": "127.0.0.1"}]}]"#,
    );
    assert_eq!(ask("a.test", Kind::A).addresses(), ["10.0.0.5"]);
    assert_eq!(ask("quad.test", Kind::A).count(), 1);
}

fn a_silent_server_is_silent(world: &World) {
    world.dns.set_silent(true);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(80))).expect("a time-out");
    socket.send_to(&query("api.example.com", Kind::A), ADDRESS).expect("sent");
    assert!(socket.recv_from(&mut [0; 512]).is_err());
    assert_eq!(world.dns.log().len(), 1, "silent, not deaf");
    world.dns.set_silent(false);
    assert_eq!(ask("api.example.com", Kind::A).count(), 1);
}

impl World {
    fn script(&self, text: &str) {
        self.dns.reset(Zone::default(), serde_json::from_str(text).expect("a script"));
    }
}

/// A reply of the name server, as bytes.
struct Reply(Vec<u8>);

impl Reply {
    fn rcode(&self) -> u8 {
        self.0[3] & 15
    }

    fn count(&self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }

    /// The addresses in the answers, by a plain walk over uncompressed records.
    fn addresses(&self) -> Vec<String> {
        let name = |mut at: usize| {
            while self.0[at] != 0 {
                at += 1 + usize::from(self.0[at]);
            }
            at + 1
        };
        let mut at = name(12) + 4;
        let mut found = Vec::new();
        for _ in 0..self.count() {
            at = name(at);
            let kind = u16::from_be_bytes([self.0[at], self.0[at + 1]]);
            let length = usize::from(u16::from_be_bytes([self.0[at + 8], self.0[at + 9]]));
            let data = &self.0[at + 10..at + 10 + length];
            if let Ok(four) = <[u8; 4]>::try_from(data)
                && kind == 1
            {
                found.push(IpAddr::from(four).to_string());
            } else if let Ok(sixteen) = <[u8; 16]>::try_from(data)
                && kind == 28
            {
                found.push(IpAddr::from(sixteen).to_string());
            }
            at += 10 + length;
        }
        found
    }
}

fn ask(name: &str, kind: Kind) -> Reply {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(WAIT)).expect("a time-out");
    socket.send_to(&query(name, kind), ADDRESS).expect("sent");
    let mut buffer = vec![0; 65535];
    let (length, from) = socket.recv_from(&mut buffer).expect("a reply");
    assert_eq!(from, ADDRESS);
    buffer.truncate(length);
    Reply(buffer)
}

fn query(name: &str, kind: Kind) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(kind.number().to_be_bytes());
    out.extend([0, 1]);
    out
}
