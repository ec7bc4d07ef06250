//! Who wins, what is refused, and in which words.

use expect_test::{Expect, expect};

use super::{chain::HaltAt, *};

/// `flags` and `env` as `key=value` words, the file as text.
fn world(flags: &str, env: &str, file: Option<&str>) -> Result<Resolved, Vec<ConfigError>> {
    let pairs = |text: &str| -> Vec<(String, String)> {
        text.split_whitespace()
            .map(|word| word.split_once('=').expect("key=value"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let mut given = Flags::new();
    for (name, value) in pairs(flags) {
        let key = keys::find(&name).expect("a known flag");
        given.entry(key.name).or_default().push(value);
    }
    let mut env = pairs(env);
    env.push(("HOME".to_owned(), "/home/ada".to_owned()));
    let around = Surroundings {
        env: &|name| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        read_file: &|path| {
            let here = path == Path::new("/home/ada/.local/share/sutantra/sutantra.toml")
                || path == Path::new("/etc/relay.toml");
            Ok(file.filter(|_| here).map(str::to_owned))
        },
        cores: 8,
        development: true,
    };
    let named = (env.iter().any(|(name, _)| name == "NAMED")).then(|| Path::new("/etc/relay.toml"));
    resolve(&given, named, &around)
}

#[track_caller]
fn check(flags: &str, env: &str, file: Option<&str>, expected: Expect) {
    let seen = match world(flags, env, file) {
        Ok(resolved) => render(&resolved),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    };
    expected.assert_eq(&seen);
}

#[test]
fn without_a_word_the_defaults_hold() {
    check(
        "",
        "",
        None,
        expect![[r#"
            home = "/home/ada/.local/share/sutantra"  # default
            http = "127.0.0.1:8080"                   # default
            udp-port = 7443                           # default
            media-ip = []                             # default
            shards = 7                                # default
            pin = false                               # default
            link = "auto"                             # default
            no-demo = false                           # default
            open = false                              # default
            # tls-cert is not set
            # tls-key is not set
            lan = false                               # default
            gather-us = 1000                          # default
            gso = true                                # default
            pad = true                                # default
            chain = true                              # default
            role = "validator-relay"                  # default
            comet = "embedded"                        # default
            # comet-bin is not set
            # abci is not set
            p2p = "0.0.0.0:26656"                     # default
            peers = []                                # default
            # moniker is not set
            # timeout-commit-ms is not set
            chain-rpc = []                            # default
            # trust is not set
            # rpc is not set
            snapshot-interval = 1000                  # default
            snapshot-keep-recent = 2                  # default
            pruning-keep-recent = 1000                # default
            # halt-height is not set
            # halt-time is not set
            faucet-public = false                     # default
            # decisions is not set
            cadence-ms = 1000                         # default
            grace-ms = 3000                           # default
            exposure-seconds = 10                     # default
            min-share-bps = 0                         # default
            wholesale-per-gb = "0"                    # default
            serve-free = []                           # default
            sessions-max = 57344                      # default
            server = true                             # default
            no-webrtc = false                         # default
            stun = ["stun:stun.l.google.com:19302"]   # default
            turn = []                                 # default
            auto-webrtc = true                        # default
            seed = []                                 # default
            # turn-secret is not set
            coordinator-mode = "open"                 # default
            # network-id is not set
            # public-url is not set
            cors = ["*"]                              # default
            trusted-proxies = []                      # default
            room-peers-max = 50                       # default
            peer-rooms-max = 32                       # default
            rooms-max = 10000                         # default
            signals-per-second = 50                   # default
            joins-per-minute = 10                     # default
            address-connections-max = 64              # default
            heartbeat-ms = 15000                      # default
            stale-ms = 30000                          # default
            log = "info,str0m=error,str0m_proto=error,is=error,dimpl=error,sctp_proto=error"  # default
            log-format = "text"                       # default
        "#]],
    );
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    check(
        "udp-port=1000 media-ip=192.0.2.1 media-ip=192.0.2.2 pin=true",
        "SUTANTRA_UDP_PORT=2000 SUTANTRA_SHARDS=3 SUTANTRA_MEDIA_IP=192.0.2.9 SUTANTRA_PIN=0",
        Some("udp-port = 3000\nshards = 4\ngather-us = 0\nopen = true\npin = false\n"),
        expect![[r#"
            home = "/home/ada/.local/share/sutantra"  # default
            http = "127.0.0.1:8080"                   # default
            udp-port = 1000                           # --udp-port
            media-ip = ["192.0.2.1", "192.0.2.2"]     # --media-ip
            shards = 3                                # SUTANTRA_SHARDS
            pin = true                                # --pin
            link = "auto"                             # default
            no-demo = false                           # default
            open = true                               # /home/ada/.local/share/sutantra/sutantra.toml:4
            # tls-cert is not set
            # tls-key is not set
            lan = false                               # default
            gather-us = 0                             # /home/ada/.local/share/sutantra/sutantra.toml:3
            gso = true                                # default
            pad = true                                # default
            chain = true                              # default
            role = "validator-relay"                  # default
            comet = "embedded"                        # default
            # comet-bin is not set
            # abci is not set
            p2p = "0.0.0.0:26656"                     # default
            peers = []                                # default
            # moniker is not set
            # timeout-commit-ms is not set
            chain-rpc = []                            # default
            # trust is not set
            # rpc is not set
            snapshot-interval = 1000                  # default
            snapshot-keep-recent = 2                  # default
            pruning-keep-recent = 1000                # default
            # halt-height is not set
            # halt-time is not set
            faucet-public = false                     # default
            # decisions is not set
            cadence-ms = 1000                         # default
            grace-ms = 3000                           # default
            exposure-seconds = 10                     # default
            min-share-bps = 0                         # default
            wholesale-per-gb = "0"                    # default
            serve-free = []                           # default
            sessions-max = 24576                      # default
            server = true                             # default
            no-webrtc = false                         # default
            stun = ["stun:stun.l.google.com:19302"]   # default
            turn = []                                 # default
            auto-webrtc = true                        # default
            seed = []                                 # default
            # turn-secret is not set
            coordinator-mode = "open"                 # default
            # network-id is not set
            # public-url is not set
            cors = ["*"]                              # default
            trusted-proxies = []                      # default
            room-peers-max = 50                       # default
            peer-rooms-max = 32                       # default
            rooms-max = 10000                         # default
            signals-per-second = 50                   # default
            joins-per-minute = 10                     # default
            address-connections-max = 64              # default
            heartbeat-ms = 15000                      # default
            stale-ms = 30000                          # default
            log = "info,str0m=error,str0m_proto=error,is=error,dimpl=error,sctp_proto=error"  # default
            log-format = "text"                       # default
        "#]],
    );
}

#[test]
fn a_printed_configuration_read_as_a_file_is_the_same_configuration() {
    let flags = "home=/srv/relay http=[::]:443 udp-port=9 media-ip=2001:db8::1 shards=2 pin=true \
                 link=epoll no-demo=true open=true tls-cert=/c.pem tls-key=/k.pem gather-us=1000 \
                 decisions=unix:/run/d.sock log-format=json server=false no-webrtc=true \
                 stun=stun.example:1 stun=stuns:[::1]:2 turn=turn:u:p@w@h:3 auto-webrtc=false \
                 seed=http://a:1 turn-secret=/s coordinator-mode=required network-id=n.1 \
                 public-url=https://b cors=https://c \
                 trusted-proxies=10.0.0.0/8 trusted-proxies=::1 room-peers-max=9 stale-ms=40000";
    let first = world(flags, "", None).expect("valid");
    let printed = render(&first);
    let second = world("", "NAMED=1", Some(&printed)).expect("what is printed can be read");
    assert_eq!(second.config, first.config);
    assert_eq!(second.file.as_deref(), Some(Path::new("/etc/relay.toml")));
}

/// R53, R82, R84
#[test]
fn dev_serves_a_coordinator_and_start_does_with_a_flag() {
    use super::coordination::Service;
    use coordinator::{Mode, STUN_DEFAULT};
    let with = |development: bool, words: &[&str]| {
        let mut flags = Flags::new();
        for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
            let key = keys::find(name).expect("a known flag");
            flags.entry(key.name).or_default().push(value.to_owned());
        }
        let around = Surroundings {
            env: &|name| (name == "HOME").then(|| "/home/ada".to_owned()),
            read_file: &|_| Ok(None),
            cores: 1,
            development,
        };
        resolve(&flags, None, &around).expect("right").config
    };
    let (dev, start) = (with(true, &[]).coordinator, with(false, &[]).coordinator);
    assert_eq!((dev.service, dev.mode), (Service::Coordinator, Mode::Open));
    assert_eq!((start.service, start.mode), (Service::Off, Mode::Signed));
    assert_eq!((dev.stun.as_slice(), dev.turn.len()), ([STUN_DEFAULT.to_owned()].as_slice(), 0));
    assert!(dev.auto_webrtc && dev.seeds.is_empty());
    assert_eq!(dev.network_id, None, "the seeds say it");
    let service = |development, words: &[&str]| with(development, words).coordinator.service;
    assert_eq!(service(false, &["server=true"]), Service::Coordinator);
    assert_eq!(service(false, &["server=true", "no-webrtc=true"]), Service::Nodes);
    assert_eq!(service(true, &["no-webrtc=true"]), Service::Nodes);
    assert_eq!(service(true, &["server=false"]), Service::Off);

    let all =
        ["stun=a:1", "stun=stun:b:2", "turn=turn:u:p@h:3", "seed=http://s:4", "seed=http://t"];
    let given = with(false, &all).coordinator;
    assert_eq!(given.stun, ["stun:a:1", "stun:b:2"], "in the place of the default");
    assert_eq!(given.turn[0].urls, "turn:h:3");
    assert_eq!(given.seeds, ["http://s:4", "http://t"]);
    assert!(!with(false, &["auto-webrtc=false"]).coordinator.auto_webrtc);

    let alone = with(false, &["role=coordinator"]);
    assert!(!alone.chain && alone.coordinator.service == Service::Coordinator);
}

/// R84
#[test]
fn a_coordinator_that_cannot_be_is_refused_with_the_way_out() {
    check(
        "stun=http://a turn=turn:h:1 stun=junk auto-webrtc=perhaps seed=a:1 coordinator-mode=closed cors=all trusted-proxies=10.0.0.0/33 heartbeat-ms=20000",
        "",
        None,
        expect![[r#"
            --stun: `stun` cannot be `http://a`: a STUN server is stun:HOST:PORT or HOST:PORT, such as stun:stun.l.google.com:19302
            --stun: `stun` cannot be `junk`: a STUN server is stun:HOST:PORT or HOST:PORT, such as stun:stun.l.google.com:19302
            --turn turn:h:1 names no user: write turn:USER:PASSWORD@HOST:PORT, or give --turn-secret FILE
            --auto-webrtc: `auto-webrtc` cannot be `perhaps`: say true or false
            --seed: `seed` cannot be `a:1`: an address such as http://192.0.2.1:8080
            --coordinator-mode: `coordinator-mode` cannot be `closed`: say open, signed or required
            --cors: `cors` cannot be `all`: an origin, such as https://example.org, or *
            --trusted-proxies: `trusted-proxies` cannot be `10.0.0.0/33`: an address, or a network such as 10.0.0.0/8
            --stale-ms 30000 is less than two heartbeats of 20000 ms: a single lost one would end a peer
        "#]],
    );
    check(
        "role=coordinator no-webrtc=true chain=true chain-rpc=http://a",
        "",
        None,
        expect![[r#"
            --chain-rpc is for a relay on a chain that others keep: add --role relay, or drop it (a coordinator keeps no chain)
            --chain-rpc needs two endpoints of different operators, so that one cannot lie alone: give it twice
            a coordinator keeps no chain: drop --chain, or say another --role
            a coordinator does nothing else: drop --no-webrtc and --server=false, or say another --role
        "#]],
    );
}

#[test]
fn every_value_that_cannot_be_is_named_with_its_origin() {
    check(
        "udp-port=70000 link=dpdk http=8080 media-ip=192.0.2.1 media-ip=0.0.0.0 media-ip=host",
        "SUTANTRA_SHARDS=0 SUTANTRA_PIN=maybe",
        Some("\ngather-us = 1001\ndecisions = \"/run/d.sock\"\n"),
        expect![[r#"
            --http: `http` cannot be `8080`: an address with a port, such as 127.0.0.1:8080 or [::]:8080
            --udp-port: `udp-port` cannot be `70000`: a UDP port is 0 to 65535
            --media-ip: `media-ip` cannot be `0.0.0.0`: no peer can send to it
            --media-ip: `media-ip` cannot be `host`: an IPv4 or IPv6 address, without a port
            SUTANTRA_SHARDS: `shards` cannot be `0`: between 1 and 64 shards
            SUTANTRA_PIN: `pin` cannot be `maybe`: say true or false
            --link: `link` cannot be `dpdk`: say auto, io_uring or epoll
            /home/ada/.local/share/sutantra/sutantra.toml:2: `gather-us` cannot be `1001`: 0 to 1000 microseconds
            /home/ada/.local/share/sutantra/sutantra.toml:3: `decisions` cannot be `/run/d.sock`: write unix: and the path of a socket
        "#]],
    );
}

#[test]
fn what_is_kept_and_when_a_node_stops_is_read_as_people_write_it() {
    let set = |flags: &str| world(flags, "", None).expect("right").config.on_chain;
    let all = set("pruning-keep-recent=0 snapshot-interval=0 snapshot-keep-recent=5");
    assert_eq!((all.kept.versions_kept, all.kept.snapshot_interval), (u64::MAX, 0));
    assert_eq!(all.kept.snapshot_keep, 5);
    let halt = set("halt-height=7 halt-time=2030-01-31T12:00:00Z").halt;
    assert_eq!((halt.height, halt.time_ms), (Some(7), Some(1_896_091_200_000)));
    assert_eq!(set("halt-height=0 halt-time=1896091200").halt.time_ms, halt.time_ms);
    assert_eq!(set("halt-height=0").halt, HaltAt::default());
    check(
        "snapshot-interval=often snapshot-keep-recent=0 pruning-keep-recent=9 halt-height=-1 halt-time=noon",
        "",
        None,
        expect![[r#"
            --snapshot-interval: `snapshot-interval` cannot be `often`: a whole number, 0 to 1000000000
            --snapshot-keep-recent: `snapshot-keep-recent` cannot be `0`: a whole number, 1 to 100
            --pruning-keep-recent: `pruning-keep-recent` cannot be `9`: a whole number, 10 to 1000000000, or 0, which keeps all
            --halt-height: `halt-height` cannot be `-1`: a height, or 0
            --halt-time: `halt-time` cannot be `noon`: a time such as 2030-01-31T12:00:00Z, or unix seconds
        "#]],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_the_way_out() {
    check(
        "tls-cert=a.pem",
        "",
        None,
        expect![[r#"
        --tls-cert needs its private key: add --tls-key FILE
    "#]],
    );
    check(
        "tls-key=a.pem",
        "",
        None,
        expect![[r#"
        --tls-key needs its certificate: add --tls-cert FILE
    "#]],
    );
    check(
        "tls-cert=a.pem tls-key=b.pem lan=true",
        "",
        None,
        expect![[r#"
        --lan makes a certificate of its own: drop --tls-cert and --tls-key, or drop --lan
    "#]],
    );
    check(
        "lan=true http=127.0.0.1:8443",
        "",
        None,
        expect![[r#"
        --lan serves other machines, which cannot reach --http 127.0.0.1:8443: drop --http or bind 0.0.0.0
    "#]],
    );
    check(
        "",
        "SUTANTRA_HOME=/a SUTANTRA_DATA_DIR=/b",
        None,
        expect![[r#"
        SUTANTRA_HOME and SUTANTRA_DATA_DIR are the same setting: unset one
    "#]],
    );
}

#[test]
fn a_file_found_through_the_home_cannot_move_the_home_but_a_named_one_can() {
    check(
        "",
        "",
        Some("home = \"/srv\"\n"),
        expect![[r#"
        /home/ada/.local/share/sutantra/sutantra.toml:1: `home` cannot be `/srv`: this file was found through the home, so it cannot move the home; start with --config FILE or --home DIR
    "#]],
    );
    let named = world("", "NAMED=1", Some("home = \"/srv\"\n")).expect("valid");
    assert_eq!(named.config.home, Path::new("/srv"));
    assert!(!named.config.home_is_default);
}

#[test]
fn a_named_file_must_exist() {
    check(
        "",
        "NAMED=1",
        None,
        expect![[r#"
        /etc/relay.toml: there is no such file
    "#]],
    );
    check(
        "",
        "SUTANTRA_CONFIG=/nowhere.toml",
        None,
        expect![[r#"
        /nowhere.toml: there is no such file
    "#]],
    );
}

#[test]
fn the_home_follows_the_xdg_base_directories() {
    #[track_caller]
    fn check(env: &str, expected: &str) {
        assert_eq!(world("", env, None).expect("valid").config.home, Path::new(expected));
    }
    check("", "/home/ada/.local/share/sutantra");
    check("XDG_DATA_HOME=/data", "/data/sutantra");
    check("XDG_DATA_HOME=relative", "/home/ada/.local/share/sutantra");
    check("XDG_DATA_HOME=/data SUTANTRA_DATA_DIR=/mine", "/mine");
}

#[test]
fn lan_binds_all_addresses_unless_told_otherwise() {
    let http = |flags| world(flags, "", None).expect("valid").config.http.to_string();
    assert_eq!(http(""), "127.0.0.1:8080");
    assert_eq!(http("lan=true"), "0.0.0.0:8443");
    assert_eq!(http("lan=false"), "127.0.0.1:8080");
    assert_eq!(http("lan=true http=192.0.2.1:99"), "192.0.2.1:99");
    assert_eq!(http("http=localhost:99"), "127.0.0.1:99");
}
