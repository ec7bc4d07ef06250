//! WHIP and WHEP sessions from offer to end, with real endpoints.

use chain_types::{Grants as GrantSet, LOCAL_CHAIN_ID, Revocation, Revoked, SignedToken, TokenId};

use super::*;

fn attribute<'a>(sdp: &'a str, name: &str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name)).collect()
}

#[track_caller]
fn check_answer(answer: &Answer, direction: &str, other: &str) {
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/sdp");
    assert_eq!(answer.header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert!(!answer.headers.contains_key("link"), "no ICE server is needed");
    let tag = answer.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "strong: {tag}");
    let id = answer.header("location").strip_prefix("/session/").expect("a session's address");
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let sdp = answer.text();
    assert_eq!(sdp.matches("m=").count(), 2, "{sdp}");
    assert_eq!(attribute(sdp, direction).len(), 2, "{sdp}");
    assert_eq!(attribute(sdp, other).len(), 0, "{sdp}");
    assert_eq!(attribute(sdp, "ice-lite").len(), 1, "{sdp}");
    assert!(attribute(sdp, "setup:").iter().all(|role| *role == "passive"), "{sdp}");
    assert!(attribute(sdp, "candidate:").iter().any(|line| line.contains(" 127.0.0.1 ")), "{sdp}");
    assert_eq!(attribute(sdp, "group:BUNDLE ").len(), 1, "{sdp}");
}

#[tokio::test]
async fn an_answer_is_ice_lite_passive_and_in_one_direction() {
    let node = Node::start(Door::Open).with_demo();
    let answer = node.post_sdp("/whip/cam", &[], &Peer::publisher().offer).await;
    check_answer(&answer, "recvonly", "sendonly");
    let answer = node.post_sdp("/whep/demo", &[], &Peer::viewer().offer).await;
    check_answer(&answer, "sendonly", "recvonly");
    let streams: std::collections::BTreeSet<&str> = attribute(answer.text(), "msid:")
        .iter()
        .filter_map(|value| value.split(' ').next())
        .collect();
    assert_eq!(streams.len(), 1, "audio and video are one stream, or lips run late");
}

#[tokio::test]
async fn the_demo_plays_and_its_viewers_are_counted() {
    let node = Node::start(Door::Open).with_demo();
    assert_eq!(node.viewers("demo").await, 0);
    let (mut one, url) = node.join("/whep/demo", &[], Peer::viewer()).await;
    let (mut two, _) = node.join("/whep/demo", &[], Peer::viewer()).await;
    let both = |peers: &[&mut Peer]| {
        peers.iter().all(|peer| peer.received.len() == 2 && peer.received.values().all(|n| *n > 20))
    };
    node.wait("audio and video at two viewers", &mut [&mut one, &mut two], both).await;
    assert_eq!(node.viewers("demo").await, 2);

    let gone = node.send(request(Method::DELETE, &url, &[], "")).await;
    assert_eq!(gone.status, 200);
    let again = node.send(request(Method::DELETE, &url, &[], "")).await;
    assert_eq!(again.problem(), (404, "no_session".to_owned()));
    node.wait("the end of the first", &mut [&mut one, &mut two], |peers| peers[0].closed).await;
    two.close();
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while node.viewers("demo").await != 0 {
        assert!(std::time::Instant::now() < give_up, "one viewer is counted for ever");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_published_stream_is_live_watched_and_waits_for_its_publisher() {
    let node = Node::start(Door::Open);
    let (mut publisher, _) = node.join("/whip/cam?title=My%20cam", &[], Peer::publisher()).await;
    assert_eq!(node.get("/api/streams").await.json(), serde_json::json!([]), "not live yet");
    node.wait("the publisher", &mut [&mut publisher], |peers| peers[0].connected).await;
    publisher.write_keyframe();
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let streams = node.get("/api/streams").await.json();
        if streams[0]["codecs"] == serde_json::json!(["VP8"]) {
            assert_eq!(streams[0]["title"], "My cam");
            break;
        }
        assert!(std::time::Instant::now() < give_up, "not listed: {streams}");
        publisher.poll();
        tokio::task::yield_now().await;
    }
    let taken = node.post_sdp("/whip/cam", &[], &Peer::publisher().offer).await;
    assert_eq!(taken.problem(), (409, "stream_taken".to_owned()));

    let (mut viewer, _) = node.join("/whep/cam", &[], Peer::viewer()).await;
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while viewer.received.is_empty() {
        assert!(std::time::Instant::now() < give_up, "waited a minute for a packet");
        if viewer.connected {
            publisher.write_keyframe();
        }
        publisher.poll();
        viewer.poll();
        tokio::task::yield_now().await;
    }

    publisher.close();
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while node.get("/api/streams/cam").await.json()["publisher_present"] != false {
        assert!(std::time::Instant::now() < give_up, "the publisher is still counted");
        viewer.poll();
        tokio::task::yield_now().await;
    }
    // Its name waits for it, and so does the viewer.
    let (mut again, _) = node.join("/whip/cam", &[], Peer::publisher()).await;
    let before = viewer.received.values().sum::<usize>();
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while viewer.received.values().sum::<usize>() < before + 3 {
        assert!(std::time::Instant::now() < give_up, "the viewer does not go on");
        if again.connected {
            again.write_keyframe();
        }
        again.poll();
        viewer.poll();
        tokio::task::yield_now().await;
    }
    assert_eq!(node.viewers("cam").await, 1);
}

#[tokio::test]
async fn trickled_candidates_are_checked_and_a_restart_is_refused() {
    let node = Node::start(Door::Open);
    let peer = Peer::publisher();
    let created = node.post_sdp("/whip/cam", &[], &peer.offer).await;
    let (url, tag) = (created.header("location"), created.header("etag"));
    let ufrag = attribute(&peer.offer, "ice-ufrag:")[0];
    let fragment = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
         a=mid:0\r\na=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
    );
    let other = fragment.replace(ufrag, "other");
    let kind = ("content-type", "application/trickle-ice-sdpfrag");
    for (headers, body, expected) in [
        (&[kind, ("if-match", tag)][..], &fragment, Ok(204)),
        (&[kind, ("if-match", tag)], &other, Err((422, "no_ice_restart"))),
        (&[kind, ("if-match", "*")], &other, Err((422, "no_ice_restart"))),
        (&[kind, ("if-match", "\"x\"")], &fragment, Err((412, "other_ice_session"))),
        (&[kind], &fragment, Err((428, "if_match_required"))),
        (&[kind, ("if-match", tag)], &"hello".to_owned(), Err((400, "bad_fragment"))),
        (&[("if-match", tag)], &fragment, Err((415, "wrong_content_type"))),
    ] {
        let answer = node.send(request(Method::PATCH, url, headers, body)).await;
        match expected {
            Ok(status) => assert_eq!(answer.status, status, "{}", answer.text()),
            Err((status, code)) => assert_eq!(answer.problem(), (status, code.to_owned())),
        }
    }
    let nobody = format!("/session/{}", "f".repeat(32));
    let answer = node.send(request(Method::PATCH, &nobody, &[kind], &fragment)).await;
    assert_eq!(answer.problem(), (404, "no_session".to_owned()));
}

/// R121
#[tokio::test]
async fn a_token_opens_the_door_until_it_is_revoked() {
    let node = Node::start(Door::Tokens).with_demo();
    let offer = Peer::viewer().offer;
    let refused = node.post_sdp("/whep/demo", &[], &offer).await;
    assert_eq!(refused.problem(), (401, "missing".to_owned()));
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"sutantra\"");
    let refused = node.post_sdp("/whep/demo", &[("authorization", "Bearer x")], &offer).await;
    assert_eq!(refused.problem(), (401, "malformed".to_owned()));
    assert!(refused.header("www-authenticate").contains("invalid_token"));

    let local = [("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-origin")];
    let path = "/api/grant?stream=demo&role=subscribe";
    let granted = node.send(request(Method::GET, path, &local, "")).await.json();
    let token = granted["token"].as_str().expect("a token").to_owned();
    let bearer = format!("Bearer {token}");
    let authorized = [("authorization", bearer.as_str())];
    let wrong = node.post_sdp("/whip/demo", &authorized, &Peer::publisher().offer).await;
    assert_eq!(wrong.problem(), (403, "wrong_role".to_owned()));
    let (mut viewer, _) = node.join("/whep/demo", &authorized, Peer::viewer()).await;
    node.wait("the demo", &mut [&mut viewer], |peers| !peers[0].received.is_empty()).await;

    let signed = SignedToken::from_bearer(&token).expect("our own");
    let token_id = signed.verify_at_any_time(LOCAL_CHAIN_ID).expect("our own").token_id;
    let revoke = |key: &SigningKey, token_id: TokenId| {
        let issuer_key = AccountId::from(key);
        let revocation = Revocation { issuer_key, what: Revoked::Token(token_id), issued_ms: 1 };
        let text = revocation.sign(key, LOCAL_CHAIN_ID).expect("its own key").to_text();
        let plain = [("content-type", "text/plain")];
        node.send(request(Method::POST, "/api/admin/revoke", &plain, &text))
    };
    let stranger = revoke(&SigningKey::from_bytes(&[8; 32]), token_id).await;
    assert_eq!(stranger.problem(), (403, "not_revoked".to_owned()));
    let nonsense = node
        .send(request(Method::POST, "/api/admin/revoke", &[("content-type", "text/plain")], "x"))
        .await;
    assert_eq!(nonsense.problem(), (400, "bad_revocation".to_owned()));
    let issuer = SigningKey::from_bytes(&[7; 32]);
    let closed = revoke(&issuer, token_id).await;
    assert_eq!(closed.json(), serde_json::json!({ "sessions_closed": 1 }));
    node.wait("the viewer's end", &mut [&mut viewer], |peers| peers[0].closed).await;
    let again = node.post_sdp("/whep/demo", &authorized, &offer).await;
    assert_eq!(again.problem(), (403, "revoked".to_owned()));
}

#[tokio::test]
async fn a_grant_is_for_the_nodes_own_pages_only() {
    let node = Node::start(Door::Tokens);
    let ask = |headers: &'static [(&'static str, &'static str)], query: &str| {
        node.send(request(Method::GET, &format!("/api/grant?{query}"), headers, ""))
    };
    let good = "stream=cam&role=publish";
    let granted = ask(&[("host", "localhost:8080")], good).await;
    let token = granted.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(granted.header("cache-control"), "no-store");
    let token = SignedToken::from_bearer(&token).expect("a token");
    let token = *token.verify_at_any_time(LOCAL_CHAIN_ID).expect("signed");
    assert_eq!((token.grants, token.max_layer), (GrantSet::PUBLISH, 255));
    for headers in [
        &[][..],
        &[("host", "evil.example:8080")],
        &[("host", "localhost:8080"), ("origin", "https://evil.example")],
        &[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")],
    ] {
        let answer = ask(headers, good).await;
        assert_eq!(answer.problem(), (403, "no_grant".to_owned()), "{headers:?}");
    }
    for query in ["", "stream=cam", "stream=Cam&role=publish", "stream=cam&role=own"] {
        let answer = ask(&[("host", "localhost")], query).await;
        assert_eq!(answer.problem(), (400, "bad_query".to_owned()), "{query}");
    }
    let public = Node::start_with(Door::Tokens, |about| about.loopback = false);
    let path = format!("/api/grant?{good}");
    let answer = public.send(request(Method::GET, &path, &[("host", "localhost")], "")).await;
    assert_eq!(answer.problem(), (403, "no_grant".to_owned()));
}
