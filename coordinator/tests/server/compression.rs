//! permessage-deflate and gzip, by bytes: no client library here speaks the former.

use std::io::Read;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::party::{PATIENCE, Server, open, serve};

/// A WebSocket that offered compression and was taken at it.
struct Wire(TcpStream);

impl Wire {
    async fn open(server: &Server, node: &str) -> Self {
        let mut stream = TcpStream::connect(server.at).await.unwrap();
        let request = format!(
            "GET /webrtc/signal?nodeId={node}&room=lobby HTTP/1.1\r\nhost: x\r\n\
             connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("permessage-deflate"), "{head}");
        Self(stream)
    }

    /// A compressed text, masked with zeros.
    async fn say(&mut self, text: &[u8]) {
        let mut payload = Vec::with_capacity(text.len() + 1_024);
        let mut best = Compress::new(Compression::best(), false);
        best.compress_vec(text, &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        let mut frame = vec![0xC1, 0x80 | 126];
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The first byte and the payload of the next frame.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let frame = async {
            let first = self.0.read_u8().await.unwrap();
            let len = match self.0.read_u8().await.unwrap() {
                126 => usize::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap() as usize,
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        };
        tokio::time::timeout(PATIENCE, frame).await.unwrap()
    }
}

/// R97
#[tokio::test]
async fn long_signals_are_compressed_to_who_offered_it_and_short_ones_are_not() {
    let server = serve(open()).await;
    let mut a = Wire::open(&server, "a").await;
    let mut b = Wire::open(&server, "b").await;
    let (first, joined) = a.hear().await;
    assert_eq!((first, joined.starts_with(b"{\"type\":\"peer-joined\"")), (0x81, true));
    let sdp = "v=0 a=candidate:1 ".repeat(200);
    let offer = format!(r#"{{"type":"offer","to":"b","room":"lobby","sdp":"{sdp}"}}"#);
    a.say(offer.as_bytes()).await;
    let (first, mut payload) = b.hear().await;
    assert_eq!(first, 0xC1);
    payload.extend([0, 0, 0xFF, 0xFF]);
    assert!(payload.len() < 500);
    let mut text = Vec::with_capacity(8 << 10);
    Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
    let want = format!(r#"{{"type":"offer","from":"a","room":"lobby","sdp":"{sdp}"}}"#);
    assert_eq!(String::from_utf8(text).unwrap(), want);
}

#[tokio::test]
async fn a_bomb_closes_its_own_connection_and_no_other() {
    let server = serve(open()).await;
    let mut a = Wire::open(&server, "a").await;
    let mut b = Wire::open(&server, "b").await;
    a.hear().await;
    b.say(&vec![b' '; 10 << 20]).await;
    let (first, payload) = b.hear().await;
    assert_eq!((first, &payload[..2]), (0x88, &4413_u16.to_be_bytes()[..]));
    let (_, left) = a.hear().await;
    assert!(left.starts_with(b"{\"type\":\"peer-left\""));
}

#[tokio::test]
async fn long_answers_are_gzipped_for_who_accepts_it() {
    let server = serve(open()).await;
    for index in 0..20 {
        server.join(&format!("node-{index}"), "lobby").await;
    }
    let path = "GET /webrtc/peers?room=lobby";
    let zipped = server.ask(path, &[("accept-encoding", "br, gzip")], "").await;
    assert!(zipped.head.contains("content-encoding: gzip"), "{}", zipped.head);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["peers"].as_array().unwrap().len(), 20);
    assert!(!server.get("/webrtc/peers?room=lobby").await.head.contains("gzip"));
}
