//! The demo's files: VP8 frames in IVF, Opus packets of one size.

use std::time::Duration;

use bytes::Bytes;

/// Length of an Opus packet, and of the time between two.
pub const AUDIO_FRAME: Duration = Duration::from_millis(20);
/// Bytes of every Opus packet of the demo (24 kbit/s, constant).
const AUDIO_PACKET_BYTES: usize = 60;
/// Bytes of IVF's file header and of each frame's.
const FILE_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 12;

/// Why bytes are no clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// Not `DKIF`, version 0, a header of 32 bytes.
    #[error("no IVF file")]
    NoIvf,
    /// Another codec.
    #[error("the video is not VP8")]
    NoVp8,
    /// No frame rate, or one that is no rate.
    #[error("the frame rate is {0}/{1}")]
    FrameRate(u32, u32),
    /// A frame says that it goes on beyond the end.
    #[error("frame {0} is cut")]
    Truncated(usize),
    /// A frame of no bytes.
    #[error("frame {0} is empty")]
    Empty(usize),
    /// The loop starts with a frame that needs another.
    #[error("the first frame is no keyframe")]
    FirstFrame,
    /// Not a whole number of packets, or none.
    #[error("{0} bytes of audio are no whole number of packets")]
    Audio(usize),
    /// One is longer than the other, and a loop would tear them apart.
    #[error("the video is {video:?} long, the audio {audio:?}")]
    Lengths { video: Duration, audio: Duration },
}

/// A loop of video and audio, equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// One VP8 frame each; the first is a keyframe.
    pub video: Vec<Bytes>,
    /// One Opus packet of [`AUDIO_FRAME`] each.
    pub audio: Vec<Bytes>,
    /// Between two frames of video.
    pub video_frame: Duration,
}

impl Clip {
    /// The one in the binary.
    pub fn embedded() -> Result<Self, ClipError> {
        let video = Bytes::from_static(include_bytes!("../../assets/demo.ivf"));
        let audio = Bytes::from_static(include_bytes!("../../assets/demo.opus.raw"));
        Self::parse(&video, &audio)
    }

    /// Reads both files; total.
    pub fn parse(ivf: &Bytes, opus: &Bytes) -> Result<Self, ClipError> {
        let (video_frame, video) = parse_ivf(ivf)?;
        if !video.first().is_some_and(is_keyframe) {
            return Err(ClipError::FirstFrame);
        }
        if opus.is_empty() || !opus.len().is_multiple_of(AUDIO_PACKET_BYTES) {
            return Err(ClipError::Audio(opus.len()));
        }
        let starts = (0..opus.len()).step_by(AUDIO_PACKET_BYTES);
        let audio: Vec<Bytes> =
            starts.map(|start| opus.slice(start..start + AUDIO_PACKET_BYTES)).collect();
        let clip = Self { video, audio, video_frame };
        let (video, audio) = (clip.duration(), times(AUDIO_FRAME, clip.audio.len()));
        if video == audio { Ok(clip) } else { Err(ClipError::Lengths { video, audio }) }
    }

    /// One turn.
    pub fn duration(&self) -> Duration {
        times(self.video_frame, self.video.len())
    }
}

/// Bit 0 of the frame tag is 0 in a keyframe (RFC 6386 §9.1).
pub fn is_keyframe(frame: &Bytes) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0)
}

fn times(one: Duration, count: usize) -> Duration {
    one.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

fn parse_ivf(file: &Bytes) -> Result<(Duration, Vec<Bytes>), ClipError> {
    let header = file.get(..FILE_HEADER_BYTES).ok_or(ClipError::NoIvf)?;
    if header[..8] != *b"DKIF\0\0\x20\0" {
        return Err(ClipError::NoIvf);
    }
    if header[8..12] != *b"VP80" {
        return Err(ClipError::NoVp8);
    }
    let (rate, scale) = (u32_at(header, 16), u32_at(header, 20));
    let video_frame = (rate > 0 && scale > 0)
        .then(|| Duration::from_secs(1).checked_mul(scale).map(|span| span / rate))
        .flatten()
        .filter(|span| !span.is_zero())
        .ok_or(ClipError::FrameRate(rate, scale))?;
    let (mut frames, mut at) = (Vec::new(), FILE_HEADER_BYTES);
    while at < file.len() {
        let number = frames.len();
        let header = file.get(at..at + FRAME_HEADER_BYTES).ok_or(ClipError::Truncated(number))?;
        let len_bytes = u32_at(header, 0) as usize;
        let start = at + FRAME_HEADER_BYTES;
        if len_bytes == 0 {
            return Err(ClipError::Empty(number));
        }
        if file.len() - start < len_bytes {
            return Err(ClipError::Truncated(number));
        }
        at = start + len_bytes;
        frames.push(file.slice(start..at));
    }
    Ok((video_frame, frames))
}

/// Little-endian, as all of IVF; the caller has the bytes.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ivf(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = b"DKIF\0\0\x20\0VP80\x80\x02\x68\x01".to_vec();
        for value in [25_u32, 1, u32::try_from(frames.len()).expect("few"), 0] {
            file.extend(value.to_le_bytes());
        }
        for frame in frames {
            file.extend(u32::try_from(frame.len()).expect("short").to_le_bytes());
            file.extend([0; 8]);
            file.extend(*frame);
        }
        file
    }

    #[track_caller]
    fn check(ivf: Vec<u8>, opus_bytes: usize, expected: Result<(usize, usize), ClipError>) {
        let got = Clip::parse(&ivf.into(), &vec![0; opus_bytes].into());
        assert_eq!(got.map(|clip| (clip.video.len(), clip.audio.len())), expected);
    }

    #[test]
    fn a_clip_is_read_or_refused_by_name() {
        let good = ivf(&[b"\0key", b"\x01delta"]);
        let changed = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            file
        };
        check(good.clone(), 240, Ok((2, 4)));
        check(Vec::new(), 240, Err(ClipError::NoIvf));
        check(changed(0, b'd'), 240, Err(ClipError::NoIvf));
        check(changed(11, b'9'), 240, Err(ClipError::NoVp8));
        check(changed(16, 0), 240, Err(ClipError::FrameRate(0, 1)));
        check(good[..good.len() - 1].to_vec(), 240, Err(ClipError::Truncated(1)));
        check(good[..FILE_HEADER_BYTES + 5].to_vec(), 240, Err(ClipError::Truncated(0)));
        check(ivf(&[b"\0key", b""]), 240, Err(ClipError::Empty(1)));
        check(ivf(&[b"\x01delta", b"\0key"]), 240, Err(ClipError::FirstFrame));
        check(ivf(&[]), 240, Err(ClipError::FirstFrame));
        check(good.clone(), 0, Err(ClipError::Audio(0)));
        check(good.clone(), 239, Err(ClipError::Audio(239)));
        let (video, audio) = (Duration::from_millis(80), Duration::from_millis(60));
        check(good, 180, Err(ClipError::Lengths { video, audio }));
    }

    #[test]
    fn the_embedded_clip_is_ten_seconds_with_a_keyframe_each_second() {
        let clip = Clip::embedded().expect("it is committed whole");
        assert_eq!(clip.duration(), Duration::from_secs(10));
        let keyframes = (0..clip.video.len()).filter(|&n| is_keyframe(&clip.video[n]));
        assert_eq!(keyframes.collect::<Vec<_>>(), (0..250).step_by(25).collect::<Vec<_>>());
        // TOC byte 0xf8 (RFC 6716 §3.1): full-band CELT, 20 ms, mono, one frame a packet.
        assert!(clip.audio.iter().all(|packet| packet[0] == 0xf8));
        let bytes: usize = clip.video.iter().chain(&clip.audio).map(Bytes::len).sum();
        assert!(bytes < 300_000, "{bytes} bytes are a burden to every clone");
    }

    proptest! {
        #[test]
        fn no_input_panics(ivf in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..90) {
            let _ = Clip::parse(&ivf.clone().into(), &Bytes::from(ivf));
            let mut almost = self::ivf(&[b"\0key", b"\x01delta"]);
            almost.truncate(cut);
            let _ = Clip::parse(&almost.into(), &Bytes::from(vec![0; 240]));
        }
    }
}
