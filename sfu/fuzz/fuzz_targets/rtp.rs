//! Any packet parses within its bounds, and what was read can be written for a subscriber.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_fuzz::wire::rtp::{HEADER_BYTES_MAX, HeaderTemplate, RtpHeader, payload_without_padding};

fuzz_target!(|packet: &[u8]| {
    let Ok(header) = RtpHeader::parse(packet) else { return };
    let payload = &packet[header.header_bytes..];
    if let Ok(media) = payload_without_padding(payload, header.padding) {
        assert!(payload.starts_with(media));
        assert_eq!(header.padding, media.len() < payload.len());
    }
    let elements: Vec<_> = header.extensions(packet).collect();
    let bytes: usize = elements.iter().map(|(_, value)| 1 + value.len()).sum();
    assert!(12 + bytes <= header.header_bytes);

    let twcc_id = elements.first().map(|(id, _)| *id);
    let mid = elements.get(1).and_then(|(id, mid)| Some((*id, str::from_utf8(mid).ok()?)));
    let template = HeaderTemplate::new(header.ssrc, header.payload_type, twcc_id, mid);
    let mut out = [0; HEADER_BYTES_MAX];
    let header_bytes = template.write(
        &mut out,
        header.marker,
        header.padding,
        header.sequence,
        header.timestamp,
        7,
    );
    let written = RtpHeader::parse(&out[..header_bytes]).expect("a header of ours");
    assert_eq!(written.header_bytes, header_bytes);
    assert_eq!(
        (written.ssrc, written.sequence, written.timestamp, written.marker, written.padding),
        (header.ssrc, header.sequence, header.timestamp, header.marker, header.padding)
    );
    for (id, value) in written.extensions(&out) {
        assert!(
            (Some(id) == twcc_id && value == [0, 7])
                || mid == str::from_utf8(value).ok().map(|mid| (id, mid))
        );
    }
});
