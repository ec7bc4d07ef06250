//! No request brings the face down.

use proptest::prelude::*;

use super::*;

fn any_path() -> impl Strategy<Value = String> {
    prop_oneof![
        "/(whip|whep|session|api/streams|watch)/[ -~]{0,40}",
        "/(api/(grant|status|streams|admin/revoke)|metrics|healthz|readyz|ca.crt)[?]?[ -~]{0,30}",
        "/[ -~]{0,60}",
        "/session/[0-9a-f]{32}",
    ]
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "v=0\r\n([a-z]=[ -~]{0,30}\r\n){0,12}".prop_map(String::into_bytes),
        "(a=(ice-ufrag|ice-pwd|candidate|mid):[ -~]{0,30}\r\n){0,6}".prop_map(String::into_bytes),
        // An offer with one byte changed.
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
            let mut offer = OFFER.clone().into_bytes();
            let at = at.index(offer.len());
            offer[at] = byte;
            offer
        }),
    ]
}

static OFFER: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| Peer::viewer().offer);

fn any_header() -> impl Strategy<Value = (&'static str, String)> {
    let names = prop::sample::select(vec![
        "authorization",
        "content-type",
        "host",
        "if-match",
        "if-none-match",
        "origin",
        "sec-fetch-site",
        "x",
    ]);
    let values = prop_oneof![
        "[ -~]{0,40}",
        Just("application/sdp".to_owned()),
        Just("text/plain".to_owned()),
        Just("application/trickle-ice-sdpfrag".to_owned()),
        "Bearer [A-Za-z0-9_-]{0,400}",
    ];
    (names, values)
}

#[test]
fn every_request_has_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for door in [Door::Open, Door::Tokens] {
        let node = Node::start(door).with_demo();
        let methods = prop::sample::select(vec![
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
        ]);
        let requests =
            (methods, any_path(), proptest::collection::vec(any_header(), 0..4), any_body());
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(512));
        let result = runner.run(&requests, |(method, path, headers, body)| {
            let mut request = Request::builder().method(method).uri(&path);
            for (name, value) in &headers {
                request = request.header(*name, value);
            }
            // What HTTP itself cannot carry never reaches a handler.
            let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
            let is_get = request.method() == Method::GET;
            let answer = runtime.block_on(node.send(request));
            prop_assert_ne!(answer.status, 500, "{}", path);
            if is_get && answer.status >= 400 {
                let body: Value = serde_json::from_slice(&answer.body)
                    .map_err(|error| TestCaseError::fail(format!("{path}: {error}")))?;
                prop_assert!(body["error"].is_string() && body["message"].is_string());
            }
            Ok(())
        });
        result.expect("every request has an answer");
        let streams = runtime.block_on(node.get("/api/streams"));
        assert_eq!(streams.json()[0]["id"], "demo", "and nobody else was disturbed");
    }
}
