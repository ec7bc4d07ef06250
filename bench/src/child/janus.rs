//! A Janus with its videoroom and its HTTP API alone, two event loops, no caps.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::ensure;

/// What Debian's Janus brings and a comparison does not need.
const PLUGINS_OFF: &str = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,\
    libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,\
    libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so";
const TRANSPORTS_OFF: &str = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,\
    libjanus_rabbitmq.so,libjanus_websockets.so";
const LOGGERS_OFF: &str = "libjanus_jsonlog.so";
/// Threads that send and receive; without the setting Janus starts one for each client, which
/// costs twice as much at a hundred viewers.
const EVENT_LOOPS: u8 = 2;

/// Files of a configuration folder, by name.
///
/// # Errors
/// A loopback address: Janus gathers no candidates on it.
pub fn configuration(home: &Path, http: SocketAddr) -> anyhow::Result<[(&'static str, String); 3]> {
    let (ip, port) = (http.ip(), http.port());
    ensure!(
        !ip.is_loopback(),
        "Janus takes no loopback address: run as root, so that a network namespace with another \
         one is made"
    );
    let core = format!(
        "general: {{\n  configs_folder = {home:?}\n  debug_level = 3\n  debug_colors = false\n  \
           admin_secret = \"unused\"\n  event_loops = {EVENT_LOOPS}\n  protected_folders = []\n}}\n\
         media: {{\n  rtp_port_range = \"20000-32000\"\n  slowlink_threshold = 0\n}}\n\
         nat: {{\n  ice_enforce_list = \"{ip}\"\n}}\n\
         plugins: {{\n  disable = \"{PLUGINS_OFF}\"\n}}\n\
         transports: {{\n  disable = \"{TRANSPORTS_OFF}\"\n}}\n\
         loggers: {{\n  disable = \"{LOGGERS_OFF}\"\n}}\n\
         events: {{\n  broadcast = false\n  stats_period = 0\n}}\n",
    );
    let transport = format!(
        "general: {{\n  json = \"compact\"\n  base_path = \"/janus\"\n  http = true\n  \
           port = {port}\n  ip = \"{ip}\"\n  https = false\n}}\n\
         admin: {{\n  admin_http = false\n  admin_https = false\n}}\n"
    );
    let rooms = "general: {\n  events = false\n}\n".to_owned();
    Ok([
        ("janus.jcfg", core),
        ("janus.transport.http.jcfg", transport),
        ("janus.plugin.videoroom.jcfg", rooms),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_is_refused_with_what_to_do() {
        let home = Path::new("/home/of/janus");
        let refused = configuration(home, SocketAddr::from(([127, 0, 0, 1], 8088)));
        let sentence = refused.expect_err("no loopback").to_string();
        assert!(sentence.contains("run as root"), "{sentence}");
        let [(name, core), ..] =
            configuration(home, SocketAddr::from(([10, 0, 0, 1], 8088))).expect("another address");
        assert_eq!(name, "janus.jcfg");
        assert!(core.contains("configs_folder = \"/home/of/janus\""), "{core}");
        assert!(core.contains("ice_enforce_list = \"10.0.0.1\""), "{core}");
    }
}
