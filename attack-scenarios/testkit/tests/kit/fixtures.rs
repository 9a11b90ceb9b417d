//! Namespace, packet log, origins and raw clients.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use egret_testkit::{
    client::{Channel, Client, Patience, Segment},
    hello::HelloShape,
    origin::{Answer, Identity, Plan, Service, Step},
    packets::Transport,
    pki::Flaw,
};

use crate::{Claim, World};

pub(crate) const TRIALS: &[Claim] = &[
    ("every_address_is_a_canary", every_address_is_a_canary),
    ("dials_to_ports_without_a_listener_are_seen", dials_without_a_listener_are_seen),
    ("own_connections_are_left_out", own_connections_are_left_out),
    ("datagrams_are_seen", datagrams_are_seen),
    ("name_files_are_private", name_files_are_private),
    ("origins_answer_in_cleartext", origins_answer_in_cleartext),
    ("origins_prove_themselves_by_tls", origins_prove_themselves_by_tls),
    ("origins_fail_as_planned", origins_fail_as_planned),
    ("origins_refuse_with_a_reset", origins_refuse_with_a_reset),
    ("origins_continue_and_answer_early", origins_continue_and_answer_early),
    ("origins_play_scripts", origins_play_scripts),
    ("services_echo_and_speak_first", services_echo_and_speak_first),
    ("a_handmade_hello_is_understood", a_handmade_hello_is_understood),
];

fn every_address_is_a_canary(world: &World) {
    let all = [
        "93.184.216.34",
        "169.254.169.254",
        "10.0.0.1",
        "127.0.0.1",
        "255.1.2.3",
        "2606:4700::6810:1",
        "fd00:ec2::254",
        "::1",
        "64:ff9b::7f00:1",
        "fe80::1",
    ];
    for text in all {
        let address: IpAddr = text.parse().expect("an address");
        // A link-local address needs the interface's number.
        let target: SocketAddr = match text.starts_with("fe80") {
            true => "[fe80::1%1]:80".parse().expect("an address"),
            false => SocketAddr::new(address, 80),
        };
        let _stream = TcpStream::connect(target).unwrap_or_else(|error| panic!("{text}: {error}"));
        let seen = world.origin.wait_until(WAIT, |all| all.iter().any(|c| c.to.ip() == address));
        assert!(seen, "{text}");
    }
    let dialled: Vec<IpAddr> = world.packets.take().iter().map(|packet| packet.to.ip()).collect();
    assert_eq!(dialled, all.map(|text| text.parse::<IpAddr>().expect("an address")));
}

fn dials_without_a_listener_are_seen(world: &World) {
    let target: SocketAddr = "[fd00::7]:8443".parse().expect("an address");
    TcpStream::connect(target).expect_err("nobody listens");
    let packets = world.packets.take();
    assert_eq!(packets.len(), 1, "{packets:?}");
    assert_eq!((packets[0].transport, packets[0].to), (Transport::Syn, target));
    assert!(world.packets.take().is_empty());
}

fn own_connections_are_left_out(world: &World) {
    let client = Client::new("10.1.1.1:80".parse().expect("an address"), world.packets.own());
    let _ours = client.connect().expect("a connection");
    assert!(world.packets.take().is_empty());
    let _theirs = TcpStream::connect("10.1.1.1:80").expect("a connection");
    assert_eq!(world.packets.take().len(), 1);
}

fn datagrams_are_seen(world: &World) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"x", "8.8.8.8:53").expect("sent");
    let packets = world.packets.take();
    assert_eq!(packets.len(), 1, "{packets:?}");
    assert_eq!(packets[0].transport, Transport::Udp);
    assert_eq!(packets[0].to, "8.8.8.8:53".parse().expect("an address"));
}

fn name_files_are_private(world: &World) {
    let read = || std::fs::read_to_string("/etc/resolv.conf").expect("a file");
    assert_eq!(read().trim(), "nameserver 127.0.0.53");
    world.entered.name_files("options ndots:5", "10.0.0.9 here").expect("written");
    assert!(read().contains("ndots:5"));
    assert!(std::fs::read_to_string("/etc/hosts").expect("a file").contains("10.0.0.9 here"));
    world.entered.name_files("", "").expect("written");
    assert!(!read().contains("ndots:5"));
}

fn origins_answer_in_cleartext(world: &World) {
    let mut channel = world.direct("93.184.216.34:80");
    let request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let heard = channel.exchange_for(&[Segment::now(request)], 2, Patience::Brief);
    assert_eq!(heard.replies.len(), 2, "{heard:?}");
    assert_eq!(heard.replies[0].body, b"ok");
    assert!(!heard.closed && heard.replies[1].complete);
    let targets: Vec<Vec<u8>> =
        world.origin.requests().iter().map(|request| request.target().to_vec()).collect();
    assert_eq!(targets, [b"/a", b"/b"]);
}

fn origins_prove_themselves_by_tls(world: &World) {
    for sni in [Some("www.example.org"), None] {
        world.reset();
        let channel = world.direct("93.184.216.35:443").tls(sni, &["http/1.1"]);
        let mut channel = channel.expect("a handshake");
        let heard = channel.exchange(&[Segment::now(GET)], Patience::Brief);
        assert_eq!(heard.replies[0].status(), 200);
        let connection = &world.origin.connections()[0];
        assert!(connection.is_tls());
        assert_eq!(connection.sni().as_deref(), sni);
        assert_eq!(connection.plain(), GET);
        assert_ne!(connection.wire(), GET);
        match channel {
            Channel::Tls(_, leaf) => assert!(contains(&leaf.0, b"api.example.com")),
            Channel::Plain(_) => panic!("not TLS"),
        }
    }
}

fn origins_fail_as_planned(world: &World) {
    let tls = || world.direct("93.184.216.34:443").tls(Some("api.example.com"), &[]);
    world.origin.reset(Plan::with(Identity::Alert));
    let alert = tls().expect_err("an alert");
    assert!(alert.to_string().contains("ProtocolVersion"), "{alert}");
    world.origin.reset(Plan::with(Identity::Reset));
    let reset = tls().expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    world.origin.reset(Plan::with(Identity::Plaintext));
    let plain = tls().expect_err("no TLS");
    assert!(plain.to_string().contains("InvalidContentType"), "{plain}");
    let names = ["api.example.com"];
    let unknown = world.pki.origin(&names, Flaw::UnknownIssuer).expect("a certificate");
    world.origin.reset(Plan::with(Identity::Certified(unknown)));
    tls().expect("the raw client takes any certificate");
}

fn origins_refuse_with_a_reset(world: &World) {
    let mut plan = Plan::good(&world.pki).expect("an origin");
    plan.refuse = vec!["93.184.216.34".parse().expect("an address")];
    plan.hang = vec!["93.184.216.35".parse().expect("an address")];
    world.origin.reset(plan);
    let address = "93.184.216.34:80".parse().expect("an address");
    // The reset may come before the connection is handed out, or after.
    let refused = Client::new(address, world.packets.own()).connect().and_then(|mut channel| {
        channel.send(GET);
        channel.receive(WAIT)
    });
    let error = refused.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut hung = world.direct("93.184.216.35:80");
    hung.send(GET);
    assert!(hung.receive(Duration::from_millis(100)).is_err());
    assert!(world.origin.wait_until(WAIT, |all| all.len() == 2 && all[1].wire() == GET));
    let mut third = world.direct("93.184.216.36:80");
    let heard = third.exchange(&[Segment::now(GET)], Patience::None);
    assert_eq!(heard.replies[0].status(), 200);
}

fn origins_continue_and_answer_early(world: &World) {
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut channel = world.direct("93.184.216.34:80");
    channel.send(head);
    let interim = channel.receive(WAIT).expect("an interim reply");
    assert!(interim.starts_with(b"HTTP/1.1 100 "));
    let heard = channel.exchange(&[Segment::now(b"hello")], Patience::Brief);
    assert_eq!(heard.replies[0].status(), 200);
    let mut plan = Plan::good(&world.pki).expect("an origin");
    plan.early = true;
    world.origin.reset(plan);
    let mut channel = world.direct("93.184.216.34:80");
    let heard = channel.exchange(&[Segment::now(head)], Patience::Brief);
    assert_eq!(heard.replies[0].status(), 200);
    assert!(!world.origin.requests()[0].complete);
}

fn origins_play_scripts(world: &World) {
    let plan = || Plan::good(&world.pki).expect("an origin");
    let pieces = ["HTTP/1.1 200 OK\r\nContent-", "Length: 2\r\n\r\no", "k"];
    let slow = Answer::pieces(pieces, Duration::from_millis(20));
    world.origin.reset(plan().answering(slow));
    let mut channel = world.direct("93.184.216.34:80");
    let heard = channel.exchange(&[Segment::now(GET)], Patience::Brief);
    assert_eq!(heard.replies[0].body, b"ok");
    assert!(channel.is_closed_within(WAIT), "a script is for one request");

    let echo = Answer::with(|request| {
        let path = String::from_utf8_lossy(request.target()).into_owned();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        vec![Step::Send(head.into_bytes())]
    });
    world.origin.reset(plan().answering(echo));
    let mut channel = world.direct("93.184.216.34:80");
    for path in ["/one", "/two"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let heard = channel.exchange(&[Segment::now(request.as_bytes())], Patience::None);
        assert_eq!(heard.replies[0].text(), path);
    }
    world.origin.reset(plan().answering(Answer::Script([Step::Reset].into())));
    let mut channel = world.direct("93.184.216.34:80");
    let heard = channel.exchange(&[Segment::now(GET)], Patience::Brief);
    assert!(heard.closed && heard.replies.is_empty());
}

fn services_echo_and_speak_first(world: &World) {
    let mut plan = Plan::good(&world.pki).expect("an origin");
    plan.services.insert(22, Service::Banner(b"SSH-2.0-x\r\n".to_vec()));
    plan.services.insert(7, Service::Echo);
    world.origin.open(22).expect("a listener");
    world.origin.open(7).expect("a listener");
    world.origin.reset(plan);
    let mut banner = world.direct("10.0.0.1:22");
    assert_eq!(banner.receive_exactly(11, WAIT), b"SSH-2.0-x\r\n");
    let mut echo = world.direct("[fd00::1]:7");
    echo.send(b"\x16hello");
    assert_eq!(echo.receive_exactly(6, WAIT), b"\x16hello");
}

fn a_handmade_hello_is_understood(world: &World) {
    let mut shape = HelloShape::named("www.example.org");
    shape.record_split = vec![1, 5, 60];
    shape.ech = true;
    let mut channel = world.direct("93.184.216.35:443");
    channel.send(&shape.write());
    let first = channel.receive(WAIT).expect("a server hello");
    assert_eq!(first[0], 0x16, "{first:?}");
    let connection = &world.origin.connections()[0];
    assert_eq!(connection.sni().as_deref(), Some("www.example.org"));
    assert!(connection.hello().expect("a hello").has_ech());
}

impl World {
    /// A raw channel straight to an origin.
    fn direct(&self, address: &str) -> Channel {
        let address = address.parse().expect("an address");
        Client::new(address, self.packets.own()).connect().expect("a connection")
    }
}

pub(crate) fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
pub(crate) const WAIT: Duration = Duration::from_secs(2);
