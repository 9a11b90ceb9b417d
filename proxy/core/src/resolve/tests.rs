//! The resolver under attack: name servers on loopback sockets that answer whatever they like.

use std::net::IpAddr;

use egret_testkit::dns::{Dns, Entry, Zone};
use rustls_pki_types::ServerName;

use super::*;
use crate::{roots::Roots, settings::Transport};

mod encrypted;
mod flood;
mod hostile;
mod replies;
mod servers;

const TIMEOUT: Duration = Duration::from_millis(600);
/// For what must succeed, however slow the machine is.
const LONG: Duration = Duration::from_secs(20);

fn cleartext(address: SocketAddr) -> NameServer {
    NameServer { address, transport: Transport::Cleartext }
}

fn resolver(servers: Vec<NameServer>, timeout: Duration) -> Resolver {
    resolver_trusting(Roots::default(), servers, timeout)
}

fn resolver_trusting(roots: Roots, servers: Vec<NameServer>, timeout: Duration) -> Resolver {
    let settings = DnsSettings { servers: Some(servers), roots, timeout, ..DnsSettings::default() };
    Resolver::new(&settings, Arc::default()).unwrap()
}

fn host(text: &str) -> Host {
    Host::Name(HostName::from_wire(text).unwrap())
}

fn worker(text: &str) -> WorkerId {
    WorkerId::parse(text).unwrap()
}

/// The addresses of a name, as text, or why there are none.
async fn look_up(resolver: &Resolver, name: &str) -> Result<Vec<String>, ResolveError> {
    look_up_for("one", resolver, name).await
}

async fn look_up_for(
    asks: &str,
    resolver: &Resolver,
    name: &str,
) -> Result<Vec<String>, ResolveError> {
    let answers = resolver.resolve(&host(name), &worker(asks)).await?;
    Ok(answers.addresses.iter().map(IpAddr::to_string).collect())
}

/// A scripted server on free ports.
fn scripted(script: &str) -> Dns {
    let any = || "127.0.0.1:0".parse().unwrap();
    let dns = Dns::start_on(any(), any()).unwrap();
    dns.reset(Zone::default(), serde_json::from_str::<Vec<Entry>>(script).unwrap());
    dns
}

fn a(address: &str) -> Result<Vec<String>, ResolveError> {
    Ok(vec![address.to_owned()])
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}
