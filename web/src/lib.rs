//! The relay's pages and the peers' client, embedded in the binary, each under its path.

/// A file that the relay serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Path of the file below `web/pages`, for example `lib/whip.js`; of a file of the client below
    /// `web`, for example `client/index.js`.
    pub path: &'static str,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The whole file.
    pub bytes: &'static [u8],
    /// Strong entity tag with its quotes (RFC 9110 §8.8.3), a function of `bytes`.
    pub etag: &'static str,
}

/// The file to serve at a URL path, `None` when there is none.
///
/// Pages have addresses of their own: `/` is Home, `/publish`, `/network`, `/rooms` and `/wallet` are
/// what they say, `/watch/{stream}` is Watch for any stream: the page itself finds out whether it is
/// live. Below `/network/` every address is a view of the explorer.
pub fn asset(path: &str) -> Option<&'static Asset> {
    let file = match path.strip_prefix('/')? {
        "" => "index.html",
        "publish" => "publish.html",
        page if page == "network" || page.starts_with("network/") => "network.html",
        "rooms" => "rooms.html",
        "wallet" => "wallet.html",
        page if page == "watch" || page.starts_with("watch/") => "watch.html",
        // One address per page, so that a link can be compared and cached.
        "index.html" | "publish.html" | "network.html" | "rooms.html" | "wallet.html"
        | "watch.html" => return None,
        file => file,
    };
    ASSETS.iter().chain(client::ASSETS).find(|asset| asset.path == file)
}

/// What the pages may load and do (Content Security Policy Level 3): only what this relay serves.
///
/// `data:` are the stills of Home; `worker-src` is the test pattern's clock.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' blob: mediastream:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'self'";

/// Files of a folder (beside this crate's sources), served below a prefix.
macro_rules! assets {
    (from $folder:literal below $prefix:literal: $($path:literal)*) => { &[$($crate::Asset {
        path: concat!($prefix, $path),
        content_type: $crate::content_type($path),
        bytes: include_bytes!(concat!($folder, $path)),
        etag: {
            const TAG: [u8; 18] = $crate::entity_tag(include_bytes!(concat!($folder, $path)));
            match std::str::from_utf8(&TAG) {
                Ok(tag) => tag,
                Err(_) => panic!("an entity tag is hexadecimal digits"),
            }
        },
    }),*] };
}

mod client;

static ASSETS: &[Asset] = assets! { from "../pages/" below "":
    "home.js"
    "icon.svg"
    "index.html"
    "lib/api.js"
    "lib/backoff.js"
    "lib/creator.js"
    "lib/dom.js"
    "lib/events.js"
    "lib/explorer.js"
    "lib/format.js"
    "lib/http.js"
    "lib/light/block.js"
    "lib/light/protobuf.js"
    "lib/light/reader.js"
    "lib/light/record.js"
    "lib/light/stake.js"
    "lib/network/account.js"
    "lib/network/block.js"
    "lib/network/book.js"
    "lib/network/decisions.js"
    "lib/network/feed.js"
    "lib/network/history.js"
    "lib/network/market.js"
    "lib/network/overview.js"
    "lib/network/parts.js"
    "lib/network/plot.js"
    "lib/network/proof-box.js"
    "lib/network/purse.js"
    "lib/network/records.js"
    "lib/network/routes.js"
    "lib/network/search.js"
    "lib/network/signatures.js"
    "lib/network/stake-panel.js"
    "lib/network/stake-rules.js"
    "lib/network/stake.js"
    "lib/network/validator.js"
    "lib/network/validators.js"
    "lib/pattern.js"
    "lib/pay-panel.js"
    "lib/pay-view.js"
    "lib/poster.js"
    "lib/publish-money.js"
    "lib/rooms/address.js"
    "lib/rooms/keep.js"
    "lib/rooms/mesh.js"
    "lib/rooms/visit.js"
    "lib/rooms/words.js"
    "lib/source.js"
    "lib/stats.js"
    "lib/ticker.js"
    "lib/viewer.js"
    "lib/wallet/balance.js"
    "lib/wallet/bind.js"
    "lib/wallet/bip39-english.js"
    "lib/wallet/borsh.js"
    "lib/wallet/bytes.js"
    "lib/wallet/caps.js"
    "lib/wallet/chain.js"
    "lib/wallet/claims.js"
    "lib/wallet/frames.js"
    "lib/wallet/keys.js"
    "lib/wallet/lane.js"
    "lib/wallet/media-clock.js"
    "lib/wallet/pay.js"
    "lib/wallet/pool-writer.js"
    "lib/wallet/pool.js"
    "lib/wallet/preimage.js"
    "lib/wallet/store.js"
    "lib/wallet/terms.js"
    "lib/wallet/token.js"
    "lib/wallet/transaction.js"
    "lib/wallet/voucher.js"
    "lib/wallet/words.js"
    "lib/wallet/x402.js"
    "lib/watching.js"
    "lib/whip.js"
    "network.html"
    "network.js"
    "publish.html"
    "publish.js"
    "rooms.html"
    "rooms.js"
    "style.css"
    "top.js"
    "wallet.html"
    "wallet.js"
    "watch.html"
    "watch.js"
};

/// By the name's ending. An unknown ending does not compile: the table above is evaluated there.
const fn content_type(path: &str) -> &'static str {
    match ending(path.as_bytes()) {
        b".html" => "text/html; charset=utf-8",
        b".css" => "text/css; charset=utf-8",
        b".js" => "text/javascript; charset=utf-8",
        b".svg" => "image/svg+xml",
        _ => panic!("no content type for this ending"),
    }
}

const fn ending(path: &[u8]) -> &[u8] {
    let mut dot = path.len();
    while dot > 0 {
        dot -= 1;
        if path[dot] == b'.' {
            return path.split_at(dot).1;
        }
    }
    path
}

/// FNV-1a of 64 bits in hexadecimal, quoted. It tells versions apart and proves nothing.
const fn entity_tag(bytes: &[u8]) -> [u8; 18] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    let mut tag = [b'"'; 18];
    let mut digit = 0;
    while digit < 16 {
        tag[16 - digit] = b"0123456789abcdef"[(hash >> (4 * digit)) as usize & 15];
        digit += 1;
    }
    tag
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    pub(crate) fn files_below(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                files_below(&entry.path(), &format!("{name}/"), found);
            } else if !name.ends_with(".d.ts") {
                found.push(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_pages_is_embedded_and_nothing_else() {
        let mut files = Vec::new();
        files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pages"), "", &mut files);
        files.sort();
        let embedded: Vec<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(embedded, files, "the table is in alphabetical order");
    }

    #[test]
    fn addresses_lead_to_files() {
        #[track_caller]
        fn check(path: &str, file: Option<&str>) {
            assert_eq!(asset(path).map(|asset| asset.path), file, "{path}");
        }
        check("/", Some("index.html"));
        check("/publish", Some("publish.html"));
        check("/network", Some("network.html"));
        check("/network/validators", Some("network.html"));
        check("/network/blocks/7", Some("network.html"));
        check("/rooms", Some("rooms.html"));
        check("/wallet", Some("wallet.html"));
        check("/lib/wallet/pay.js", Some("lib/wallet/pay.js"));
        check("/watch/demo", Some("watch.html"));
        check("/watch/", Some("watch.html"));
        check("/watch", Some("watch.html"));
        check("/style.css", Some("style.css"));
        check("/lib/whip.js", Some("lib/whip.js"));
        // Refused: not a path, a second address of a page, climbing out, a page's neighbour.
        check("", None);
        check("style.css", None);
        check("/index.html", None);
        check("/publish/", None);
        check("/rooms.html", None);
        check("/rooms/global", None);
        check("/wallet.html", None);
        check("/wallet/", None);
        check("/watching", None);
        check("/networks", None);
        check("/network.html", None);
        check("/../Cargo.toml", None);
        check("/lib/", None);
        check("/lib/diagnostics.d.ts", None);
    }

    #[test]
    fn entity_tags_are_quoted_and_differ() {
        let mut tags: Vec<_> = ASSETS.iter().map(|asset| asset.etag).collect();
        assert!(
            tags.iter().all(|tag| tag.len() == 18 && tag.starts_with('"') && tag.ends_with('"'))
        );
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), ASSETS.len());
        // The published test vector of FNV-1a.
        assert_eq!(&entity_tag(b"a"), b"\"af63dc4c8601ec8c\"");
    }

    /// Nothing of a page comes from another host: no font, no script, no picture.
    #[test]
    fn pages_name_no_other_host() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for (at, _) in text.match_indices("://") {
                let from =
                    text[..at].rfind(|c: char| !c.is_ascii_alphabetic()).map_or(0, |i| i + 1);
                let rest: String = text[from..].chars().take(40).collect();
                assert!(
                    rest.starts_with("http://www.w3.org/2000/svg"),
                    "{} names {rest}",
                    asset.path
                );
            }
        }
    }
}
