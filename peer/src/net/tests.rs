//! A relay that refuses, and credentials that change.

use std::time::Duration;

use super::*;
use crate::nat::stun::{Builder, Class, Message, Method};

const WITHIN: Duration = Duration::from_secs(60);

fn server(port: u16, username: &str) -> IceServer {
    let url = format!("turn:{username}:secret@127.0.0.1:{port}");
    IceServer::parse(&url).unwrap()
}

/// Drives `net` until the relay is asked for an address; gives who asks and its request.
async fn asked(net: &mut Net, relay: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut buffer = [0; DATAGRAM_BYTES];
    let turn = async {
        loop {
            net.flush().await;
            tokio::select! {
                read = relay.recv_from(&mut buffer) => {
                    let (len_bytes, from) = read.unwrap();
                    return (from, buffer[..len_bytes].to_vec());
                }
                arrival = net.next() => net.handle(arrival, Instant::now(), &mut Vec::new()),
            }
        }
    };
    tokio::time::timeout(WITHIN, turn).await.expect("a request comes")
}

/// The relay refuses, and the refusal has arrived.
async fn refuse(net: &mut Net, relay: &UdpSocket, (from, request): (SocketAddr, Vec<u8>)) {
    let request = Message::parse(&request).unwrap();
    let answer = Builder::new(Method::Allocate, Class::Error, request.id).finish(None);
    relay.send_to(&answer, from).await.unwrap();
    let wait = async {
        loop {
            let (arrival, mut events) = (net.next().await, Vec::new());
            net.handle(arrival, Instant::now(), &mut events);
            if events.iter().any(|event| matches!(event, NetEvent::Warning(_))) {
                return;
            }
        }
    };
    tokio::time::timeout(WITHIN, wait).await.expect("the refusal is told");
}

#[tokio::test]
async fn other_credentials_are_no_other_relay_and_serve_once_the_first_have_failed() {
    let relay = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = relay.local_addr().unwrap().port();
    let mut net = Net::open(&[Ipv4Addr::LOCALHOST.into()], true).await.unwrap();
    net.use_server(server(port, "1"));
    let first = asked(&mut net, &relay).await;
    for n in 2..100 {
        net.use_server(server(port, &n.to_string()));
    }
    assert_eq!((net.servers.len(), net.relays.len()), (1, 1));

    refuse(&mut net, &relay, first.clone()).await;
    let second = asked(&mut net, &relay).await;
    assert_ne!(first.0, second.0, "another socket asks");
    assert_eq!(net.relays.len(), 1, "the one that failed is gone");
    let used: Vec<_> = net.relays.values().map(|one| one.server.clone()).collect();
    assert_eq!(used, [server(port, "99")]);

    // Nothing new was told, so it rests until it is.
    refuse(&mut net, &relay, second).await;
    assert!(net.servers.is_empty() && net.relays.is_empty());
    net.use_server(server(port, "99"));
    asked(&mut net, &relay).await;
    assert_eq!((net.servers.len(), net.relays.len()), (1, 1));
}

#[tokio::test]
async fn servers_beyond_the_most_are_left_out_until_one_has_failed() {
    let mut net = Net::open(&[Ipv4Addr::LOCALHOST.into()], true).await.unwrap();
    let many = u16::try_from(SERVERS_MAX).unwrap();
    (1..=many + 1).for_each(|port| net.use_server(server(port, "u")));
    assert_eq!(net.servers.len(), SERVERS_MAX);
    let (why, one) = ("it is unknown".to_owned(), server(1, "u"));
    let arrival = Arrival::Unusable { server: one, why };
    net.handle(arrival, Instant::now(), &mut Vec::new());
    net.use_server(server(many + 1, "u"));
    assert!(net.servers.contains_key(&place(&server(many + 1, "u"))));
    assert_eq!(net.servers.len(), SERVERS_MAX);
}
