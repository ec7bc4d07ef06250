//! The client that pages import as `/client/index.js`: the files of `web/client` that need no Node.

use crate::Asset;

pub(crate) static ASSETS: &[Asset] = assets! { from "../client/" below "client/":
    "attempts.js"
    "backoff.js"
    "bytes.js"
    "channel.js"
    "codec.js"
    "deflate.js"
    "emitter.js"
    "errors.js"
    "framing.js"
    "glue.js"
    "http.js"
    "identity.js"
    "index.js"
    "inputs.js"
    "invite.js"
    "link.js"
    "memberships.js"
    "mesh.js"
    "outbox.js"
    "pace.js"
    "peer.js"
    "poll.js"
    "prrc/application.js"
    "prrc/attach.js"
    "prrc/ballot.js"
    "prrc/channel.js"
    "prrc/commit.js"
    "prrc/feed.js"
    "prrc/index.js"
    "prrc/memory.js"
    "prrc/signed.js"
    "relay.js"
    "replay.js"
    "rooms.js"
    "signaling.js"
    "socket.js"
    "transport.js"
    "turn.js"
    "webcrypto.js"
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::ASSETS;
    use crate::asset;

    #[test]
    fn every_module_of_the_client_is_embedded_but_what_is_for_node_alone() {
        let mut files = Vec::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("client");
        crate::tests::files_below(&folder, "client/", &mut files);
        files.retain(|file| file.ends_with(".js") && file != "client/node.js");
        files.sort();
        let embedded: Vec<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(embedded, files, "the table is in alphabetical order");
    }

    #[test]
    fn pages_find_the_client_and_not_what_is_beside_it() {
        #[track_caller]
        fn check(path: &str, file: Option<&str>) {
            assert_eq!(asset(path).map(|asset| asset.path), file, "{path}");
        }
        check("/client/index.js", Some("client/index.js"));
        check("/client/peer.js", Some("client/peer.js"));
        check("/client/prrc/index.js", Some("client/prrc/index.js"));
        check("/client/node.js", None);
        check("/client/package.json", None);
        check("/client/", None);
        check("/client", None);
        check("client/index.js", None);
        check("/index.js", None);
    }

    /// Nothing that a page loads comes from another host, the client's modules as little as the page's.
    #[test]
    fn the_client_names_no_other_host() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            assert!(!text.contains("://"), "{} names a host", asset.path);
        }
    }
}
