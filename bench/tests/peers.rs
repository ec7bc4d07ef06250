//! The same clients through other servers, where those are installed.

use std::sync::Arc;
use std::time::Duration;

use bench::child::programs::{Program, Search};
use bench::child::{Kind, Place, Server};
use bench::load::{self, LoadConfig};
use bench::trace::Trace;

/// Two viewers play audio and video for a second, and nothing is lost.
#[track_caller]
fn check(kind: &Kind, program: Program, place: Option<Place<'_>>) {
    let named = std::env::var_os("SUTANTRA_LIVEKIT_BIN").filter(|_| program == Program::LiveKit);
    let found = Search::of_process().find(program, named.as_ref().map(std::path::Path::new));
    let (file, place) = match (found, place) {
        (Ok(file), Some(place)) => (file, place),
        (Err(absent), _) => {
            println!("left out: {absent}");
            return;
        }
        (Ok(_), None) => {
            println!("left out: this machine has no address but loopback");
            return;
        }
    };
    let server = Server::start(kind, &file, place).expect("it starts");
    let trace = Arc::new(Trace::built_in("video-2400k").expect("built in"));
    let config = LoadConfig {
        viewers: 2,
        duration: Duration::from_secs(1),
        pid: Some(server.pid()),
        sample_every: 1,
        ..LoadConfig::new(server.target.clone(), "video-2400k", trace)
    };
    let report = load::run(&config);
    let report = report.unwrap_or_else(|error| panic!("{error:#}\n{}", server.log_tail()));
    println!("{report}");
    let packets = &report.packets;
    assert_eq!((report.playing, report.ended), (2, 0), "{report}");
    assert_eq!((packets.corrupt, packets.alien, packets.lost), (0, 0, 0), "{report}");
    assert!(packets.expected >= 2 * 250, "{report}");
    assert!(report.server.as_ref().is_some_and(|server| server.us_per_packet > 0.0), "{report}");
}

#[test]
fn two_viewers_play_through_livekit() {
    check(&Kind::LiveKit, Program::LiveKit, Some(Place::LOOPBACK));
}

#[test]
fn two_viewers_play_through_janus() {
    check(&Kind::Janus, Program::Janus, Place::of_machine());
}
