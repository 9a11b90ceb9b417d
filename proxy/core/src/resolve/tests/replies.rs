//! Replies that lie, in every way that a server or somebody near it could try.

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Record},
};

use super::{
    super::{answer::AnswerError, chain::ChainError},
    hostile::{address, alias, bytes, name, reply, reply_with, send, start, start_udp},
    *,
};

const HONEST: [u8; 4] = [192, 0, 2, 1];
const FORGED: [u8; 4] = [192, 0, 2, 66];

fn honest(query: &Message) -> Vec<u8> {
    bytes(&reply(query, &[address("api.test.", 60, HONEST)]))
}

fn forged(query: &Message, change: impl Fn(&mut Message)) -> Vec<u8> {
    let mut forged = reply(query, &[address("api.test.", 60, FORGED)]);
    change(&mut forged);
    bytes(&forged)
}

/// What a server is believed that answers `api.test` by these records, code and all.
async fn believed(code: ResponseCode, records: Vec<Record>) -> Result<Vec<String>, ResolveError> {
    let server = start_udp(move |query| vec![bytes(&reply_with(query, code, &records))]);
    look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await
}

fn unbelievable(error: impl Into<AnswerError>) -> Result<Vec<String>, ResolveError> {
    Err(ResolveError::Answer(error.into()))
}

#[tokio::test]
async fn datagrams_that_do_not_fit_the_query_are_passed_over() {
    let changes: [fn(&mut Message); 3] = [
        |message| message.metadata.id ^= 0x5500,
        |message| _ = message.queries[0].set_name(name("other.test.")),
        |message| message.queries.clear(),
    ];
    for change in changes {
        let server = start_udp(move |query| vec![forged(query, change), honest(query)]);
        let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
        assert_eq!(found, a("192.0.2.1"));
    }
}

#[tokio::test]
async fn a_datagram_in_another_case_sends_the_question_to_tcp() {
    // Somebody who guesses the number and the port would have to guess the case as well.
    let other_case = |message: &mut Message| {
        let text: String = message.queries[0].name().to_ascii();
        let swapped = text.chars().map(|letter| match letter.is_ascii_lowercase() {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        });
        message.queries[0].set_name(name(&swapped.collect::<String>()));
    };
    let answers = start(
        move |query| vec![forged(query, other_case)],
        |query, stream| send(stream, &honest(query)),
    );
    assert_eq!(
        look_up(&resolver(vec![cleartext(answers)], LONG), "api.test").await,
        a("192.0.2.1")
    );

    let refuses = start_udp(move |query| vec![forged(query, other_case)]);
    let found = look_up(&resolver(vec![cleartext(refuses)], LONG), "api.test").await;
    assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Broken(_)))), "{found:?}");
}

#[tokio::test]
async fn what_was_asked_in_mixed_case_is_answered_in_any_by_its_records() {
    let records = vec![alias("API.test.", "Cdn.TEST."), address("cDN.test.", 60, HONEST)];
    assert_eq!(believed(ResponseCode::NoError, records).await, a("192.0.2.1"));
}

#[tokio::test]
async fn records_that_the_name_does_not_lead_to_do_not_count() {
    let other = vec![address("other.test.", 60, FORGED)];
    assert_eq!(believed(ResponseCode::NoError, other).await, Err(ResolveError::NoAddress));

    let mut foreign = address("api.test.", 60, FORGED);
    foreign.dns_class = DNSClass::CH;
    let found = believed(ResponseCode::NoError, vec![foreign]).await;
    assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Broken(_)))), "{found:?}");

    let server = start_udp(|query| {
        let mut message = reply(query, &[]);
        message.additionals.push(address("api.test.", 60, FORGED));
        message.authorities.push(address("api.test.", 60, FORGED));
        vec![bytes(&message)]
    });
    let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
    assert_eq!(found, Err(ResolveError::NoAddress));
}

#[tokio::test]
async fn an_alias_to_elsewhere_is_followed_in_the_answer_and_told() {
    let records =
        vec![alias("api.test.", "db.corp.internal."), address("db.corp.internal.", 60, HONEST)];
    let server = start_udp(move |query| vec![bytes(&reply(query, &records))]);
    let answers = resolver(vec![cleartext(server)], LONG)
        .resolve(&host("api.test"), &worker("one"))
        .await
        .unwrap();
    assert_eq!(answers.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(answers.aliases, [HostName::from_wire("db.corp.internal").unwrap()]);
}

#[tokio::test]
async fn an_alias_without_an_end_is_never_asked_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let others = asked.clone();
    let server = start_udp(move |query| {
        if *query.queries[0].name() != name("api.test.") {
            others.fetch_add(1, Ordering::Relaxed);
        }
        vec![bytes(&reply(query, &[alias("api.test.", "secret.other.test.")]))]
    });
    let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
    assert_eq!(found, Err(ResolveError::NoAddress));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn loops_and_forks_of_aliases_spoil_the_answer() {
    let turn = vec![alias("api.test.", "b.test."), alias("b.test.", "api.test.")];
    let found = believed(ResponseCode::NoError, turn).await;
    assert_eq!(found, unbelievable(ChainError::TooLong));
    let fork = vec![
        alias("api.test.", "b.test."),
        alias("api.test.", "c.test."),
        address("b.test.", 60, HONEST),
    ];
    let found = believed(ResponseCode::NoError, fork).await;
    assert_eq!(found, unbelievable(ChainError::Forked));
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_no_address() {
    let records = vec![address("api.test.", 60, HONEST)];
    let found = believed(ResponseCode::NXDomain, records).await;
    assert_eq!(found, unbelievable(AnswerError::Contradiction));
    let found = believed(ResponseCode::NXDomain, vec![]).await;
    assert_eq!(found, Err(ResolveError::NoSuchName));
    let dangling = vec![alias("api.test.", "gone.test.")];
    let found = believed(ResponseCode::NXDomain, dangling).await;
    assert_eq!(found, Err(ResolveError::NoSuchName));
}

#[tokio::test]
async fn codes_that_say_nothing_of_the_name_are_failures() {
    for code in [ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::Unknown(12)] {
        let found = believed(code, vec![address("api.test.", 60, FORGED)]).await;
        assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Code(_)))), "{found:?}");
    }
}

#[tokio::test]
async fn addresses_that_are_told_twice_count_once() {
    let twice = vec![address("api.test.", 60, HONEST), address("api.test.", 60, HONEST)];
    assert_eq!(believed(ResponseCode::NoError, twice).await, a("192.0.2.1"));
    let server = start_udp(|query| vec![honest(query), honest(query), honest(query)]);
    let resolver = resolver(vec![cleartext(server)], LONG);
    assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.1"));
}

/// Truncated by UDP, whole by TCP.
fn by_tcp(records: usize) -> SocketAddr {
    start(
        |query| {
            let mut cut = reply(query, &[address("api.test.", 60, FORGED)]);
            cut.metadata.truncation = true;
            vec![bytes(&cut)]
        },
        move |query, stream| {
            let many =
                (0..records).map(|n| address("api.test.", 60, [192, 0, (n >> 8) as u8, n as u8]));
            send(stream, &bytes(&reply(query, &many.collect::<Vec<_>>())))
        },
    )
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_by_tcp_and_never_used() {
    let found = look_up(&resolver(vec![cleartext(by_tcp(256))], LONG), "api.test").await;
    assert_eq!(found.map(|found| found.len()), Ok(256));
    let found = look_up(&resolver(vec![cleartext(by_tcp(500))], LONG), "api.test").await;
    assert_eq!(found, unbelievable(ChainError::TooMany));

    let no_tcp = start_udp(|query| {
        let mut cut = reply(query, &[address("api.test.", 60, FORGED)]);
        cut.metadata.truncation = true;
        vec![bytes(&cut)]
    });
    let found = look_up(&resolver(vec![cleartext(no_tcp)], LONG), "api.test").await;
    assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Broken(_)))), "{found:?}");
}

/// A server whose datagrams are always cut.
fn only_stream(
    stream: impl Fn(&Message, &mut std::net::TcpStream) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let cut = |query: &Message| {
        let mut cut = reply(query, &[]);
        cut.metadata.truncation = true;
        vec![bytes(&cut)]
    };
    start(cut, stream)
}

#[tokio::test]
async fn a_stream_that_answers_another_question_is_not_believed() {
    let server = only_stream(|query, stream| {
        let other = |message: &mut Message| _ = message.queries[0].set_name(name("other.test."));
        send(stream, &forged(query, other))
    });
    let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
    assert_eq!(found, unbelievable(AnswerError::OtherQuestion));
    let server = only_stream(|query, stream| {
        let mut none = reply(query, &[]);
        none.queries[0].set_name(name("other.test."));
        send(stream, &bytes(&none))
    });
    let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
    assert_eq!(found, unbelievable(AnswerError::OtherQuestion));
}

#[tokio::test]
async fn a_stream_that_drips_is_read_to_its_end_or_to_the_deadline() {
    let drip = |pause: Duration| {
        only_stream(move |query, stream| {
            stream.set_nodelay(true)?;
            let message = honest(query);
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            for byte in [&length[..], &message].concat() {
                stream.write_all(&[byte])?;
                std::thread::sleep(pause);
            }
            Ok(())
        })
    };
    let server = drip(Duration::from_millis(1));
    assert_eq!(look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await, a("192.0.2.1"));
    let server = drip(Duration::from_millis(300));
    let found = look_up(&resolver(vec![cleartext(server)], TIMEOUT), "api.test").await;
    assert_eq!(found, Err(ResolveError::Timeout));
}

#[tokio::test]
async fn a_stream_of_a_megabyte_of_other_answers_is_no_answer() {
    let server = only_stream(|query, stream| {
        let mut other = reply(query, &[]);
        other.metadata.id ^= 1;
        let mut message = bytes(&other);
        message.resize(65_000, 0);
        for _ in 0..16 {
            send(stream, &message)?;
        }
        std::thread::sleep(LONG);
        Ok(())
    });
    let found = look_up(&resolver(vec![cleartext(server)], TIMEOUT), "api.test").await;
    assert_eq!(found, Err(ResolveError::Timeout));
}

#[tokio::test]
async fn a_reply_that_cannot_be_parsed_is_a_failure() {
    let server = start_udp(|query| {
        let mut message = honest(query);
        message.truncate(message.len() - 2);
        vec![message]
    });
    let found = look_up(&resolver(vec![cleartext(server)], LONG), "api.test").await;
    assert!(matches!(found, Err(ResolveError::Failed(ServerFault::Broken(_)))), "{found:?}");
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_within_the_ceiling() {
    for (ttl, asked_twice) in [(0, true), (60, false), (0x7fff_ffff, false), (0x8000_0000, true)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = start_udp(move |query| {
            count.fetch_add(1, Ordering::Relaxed);
            vec![bytes(&reply(query, &[address("api.test.", ttl, HONEST)]))]
        });
        let resolver = resolver(vec![cleartext(server)], LONG);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.1"));
        let once = asked.load(Ordering::Relaxed);
        assert_eq!(look_up(&resolver, "api.test").await, a("192.0.2.1"));
        assert_eq!(asked.load(Ordering::Relaxed) > once, asked_twice, "{ttl}");
    }
}

#[test]
fn a_kept_answer_of_extreme_size_counts_as_several() {
    let kept = |addresses, aliases| {
        let answers = Answers {
            addresses: vec!["192.0.2.1".parse().unwrap(); addresses],
            aliases: vec![HostName::from_wire("a.test").unwrap(); aliases],
        };
        Kept { found: Ok(Arc::new(answers)), ttl: Duration::ZERO }.weight()
    };
    assert_eq!((kept(1, 0), kept(4, 1), kept(512, 32)), (1, 1, 49));
}

#[tokio::test]
async fn an_answer_in_the_place_of_another_has_its_own_time() {
    let resolver = resolver(vec![], TIMEOUT);
    let name = HostName::from_wire("api.test").unwrap();
    let kept = |secs| Kept { found: Err(ResolveError::NoAddress), ttl: Duration::from_secs(secs) };
    resolver.cache.insert(name.clone(), kept(60)).await;
    assert!(resolver.cache.get(&name).await.is_some());
    // Invalidated answers are still there to be replaced for a while.
    resolver.cache.invalidate_all();
    resolver.cache.insert(name.clone(), kept(0)).await;
    assert!(resolver.cache.get(&name).await.is_none());
}
