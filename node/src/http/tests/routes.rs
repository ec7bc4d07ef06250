//! Addresses, methods, headers and refusals.

use super::*;

#[tokio::test]
async fn pages_are_served_with_a_tag_and_guarded() {
    let node = Node::start(Door::Open);
    for path in ["/", "/publish", "/watch/any-name", "/lib/whip.js", "/style.css"] {
        let page = node.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.is_empty(), "{path}");
        let known = [("if-none-match", page.header("etag"))];
        let again = node.send(request(Method::GET, path, &known, "")).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let head = node.send(request(Method::HEAD, path, &[], "")).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), page.body.len().to_string());
    }
    let page = node.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(node.get("/nothing.js").await.problem(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let node = Node::start(Door::Open);
    let session = format!("/session/{}", "0".repeat(32));
    for (method, path, allow) in [
        (Method::GET, "/whip/cam", "POST"),
        (Method::PUT, "/whep/cam", "POST"),
        (Method::GET, session.as_str(), "PATCH,DELETE"),
        (Method::HEAD, &session, "PATCH,DELETE"),
        (Method::POST, &session, "PATCH,DELETE"),
        (Method::POST, "/api/streams", "GET,HEAD"),
        (Method::GET, "/api/admin/revoke", "POST"),
        (Method::POST, "/publish", "GET, HEAD"),
    ] {
        let answer = node.send(request(method.clone(), path, &[], "")).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        let mut expected: Vec<&str> = allow.split(',').map(str::trim).collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
        if method != Method::HEAD {
            assert_eq!(answer.problem().1, "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn any_origin_may_publish_and_watch_but_not_ask_for_a_grant() {
    let node = Node::start(Door::Open);
    let from = [("origin", "https://player.example"), ("access-control-request-method", "POST")];
    for path in ["/whip/cam", "/whep/cam", "/session/0", "/api/streams"] {
        let answer = node.send(request(Method::OPTIONS, path, &from, "")).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.header("access-control-allow-headers").contains("Authorization"));
        assert!(answer.header("access-control-allow-methods").contains("DELETE"));
    }
    let refused = node.post_sdp("/whep/cam", &from[..1], "v=0").await;
    assert_eq!(refused.header("access-control-allow-origin"), "*", "a refusal is readable too");
    let exposed = refused.header("access-control-expose-headers");
    for header in ["Location", "Link", "ETag", "WWW-Authenticate"] {
        assert!(exposed.contains(header), "{exposed}");
    }
    let grant = node.get("/api/grant?stream=cam&role=publish").await;
    assert!(!grant.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn what_cannot_become_a_session_is_refused_by_name() {
    let node = Node::start(Door::Open).with_demo();
    let peer = Peer::publisher();
    let viewer = Peer::viewer();
    let no_codec: String =
        viewer.offer.replace("VP8/90000", "XYZ/90000").replace("opus/48000", "xyz/48000");
    let long = format!("v=0\r\n{}", "a=x\r\n".repeat(14_000));
    for (path, body, expected) in [
        ("/whip/Cam", peer.offer.as_str(), (400, "bad_stream_name")),
        ("/whip/a%2Fb", &peer.offer, (400, "bad_stream_name")),
        ("/whip/%ff", &peer.offer, (400, "bad_stream_name")),
        ("/whip/cam", "", (400, "bad_offer")),
        ("/whip/cam", "hello", (400, "bad_offer")),
        ("/whip/cam", &long, (413, "too_large")),
        ("/whip/cam", &viewer.offer, (422, "wrong_direction")),
        ("/whip/demo", &peer.offer, (409, "stream_taken")),
        ("/whep/demo", &peer.offer, (422, "wrong_direction")),
        ("/whep/demo", &no_codec, (406, "no_common_codec")),
        ("/whep/cam", &viewer.offer, (404, "not_live")),
    ] {
        let answer = node.post_sdp(path, &[], body).await;
        let shown = &body[..body.len().min(40)];
        let expected = (expected.0, expected.1.to_owned());
        assert_eq!(answer.problem(), expected, "{path} {shown:?}: {}", answer.text());
    }
    assert_eq!(node.post_sdp("/whep/cam", &[], &viewer.offer).await.header("retry-after"), "2");
    for content_type in [&[][..], &[("content-type", "application/json")]] {
        let answer = node.send(request(Method::POST, "/whip/cam", content_type, &peer.offer)).await;
        assert_eq!(answer.problem(), (415, "wrong_content_type".to_owned()));
    }
    let streams = node.get("/api/streams").await.json();
    let ids: Vec<_> =
        streams.as_array().expect("a list").iter().map(|entry| &entry["id"]).collect();
    assert_eq!(ids, ["demo"], "no refused name is kept");
}

#[tokio::test]
async fn the_live_streams_and_the_status_are_told() {
    let node = Node::start(Door::Open).with_demo();
    let expected = serde_json::json!([{
        "id": "demo", "title": "Demo", "codecs": ["VP8", "opus"], "viewers": 0,
        "price_per_second": "0", "whep": "/whep/demo", "stream_id": null, "policy": null,
        "terms_version": null, "creator": null,
    }]);
    assert_eq!(node.get("/api/streams").await.json(), expected);
    let detail = node.get("/api/streams/demo").await.json();
    assert_eq!((&detail["id"], &detail["publisher_present"]), (&"demo".into(), &true.into()));
    assert_eq!(node.get("/api/streams/cam").await.problem(), (404, "not_live".to_owned()));
    let status = node.get("/api/status").await.json();
    let port = status["udp_port"].as_u64().expect("a port");
    let expected = serde_json::json!({
        "version": "1.2.3", "link": "epoll", "shards": 1, "udp_port": port,
        "started_ms": 1_700_000_000_123_u64, "open": true,
    });
    assert_eq!(status, expected);
    assert!(port > 0);
    let metrics = node.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("sutantra_streams 1\n"), "{}", metrics.text());
    let counted = "sutantra_http_requests_total{class=\"4xx\",route=\"/api/streams/{stream}\"} 1\n";
    assert!(metrics.text().contains(counted), "by template: {}", metrics.text());
    assert_eq!(node.get("/healthz").await.text(), "ok\n");
}

#[tokio::test]
async fn a_relay_that_drains_takes_nobody() {
    let node = Node::start(Door::Open);
    assert_eq!(node.get("/readyz").await.status, 200);
    tokio::task::spawn_blocking({
        let control = Arc::clone(&node.control);
        move || control.drain()
    })
    .await
    .expect("no panic");
    assert_eq!(node.get("/readyz").await.problem(), (503, "draining".to_owned()));
    let answer = node.post_sdp("/whip/cam", &[], &Peer::publisher().offer).await;
    assert_eq!(answer.problem(), (503, "draining".to_owned()));
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(node.get("/healthz").await.status, 200, "alive until the end");
}

#[tokio::test]
async fn the_authority_is_given_out_where_there_is_one() {
    let node = Node::start_with(Door::Open, |about| about.ca_pem = Some("PEM".to_owned()));
    let answer = node.get("/ca.crt").await;
    assert_eq!(
        (answer.text(), answer.header("content-type")),
        ("PEM", "application/x-x509-ca-cert")
    );
    assert_eq!(Node::start(Door::Open).get("/ca.crt").await.problem().1, "no_ca");
}
