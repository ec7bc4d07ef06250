//! The drop sink: viewers whose media is counted and dropped where a network card would send it.
//!
//! The relay and the generator stand in network namespaces of their own, a veth pair between them.
//! On the generator's end an XDP program drops RTP for ports that do not hear; ICE, DTLS and RTCP
//! pass, so that a viewer is connected and stays so, and costs no receiver.

mod asm;
mod bpf;
mod net;
mod program;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use bench::sink::Sink;

pub use bpf::AttachMode;
use bpf::{Map, MapKind};
pub use net::{GENERATOR, Network, RELAY};
#[cfg(test)]
pub(crate) use tests::check;

/// Why there is no drop sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Namespaces are root's.
    #[error(
        "a network namespace needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): {0}; \
         run it as root, or measure over loopback"
    )]
    NoNamespace(#[source] io::Error),
    /// The tool is missing.
    #[error("the program `ip` does not start: {0}; install the package iproute2")]
    NoIp(#[source] io::Error),
    /// The tool or the kernel refuses.
    #[error("`ip -batch -` refused: {message}; it was told:\n{commands}")]
    Ip {
        /// What was asked.
        commands: String,
        /// What it answered.
        message: String,
    },
    /// The pair was made and is not there.
    #[error("the veth pair is not there: {0}; does the kernel have CONFIG_VETH?")]
    NoInterface(#[source] io::Error),
    /// `bpf(2)` refuses.
    #[error(
        "bpf(2) refused {what}: {source}; it needs root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) and \
         Linux 5.9 or newer; measure over loopback otherwise"
    )]
    Bpf {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program is refused.
    #[error("the kernel's verifier refused the program: {source}; its log:\n{log}")]
    Verifier {
        /// What the kernel said.
        source: io::Error,
        /// What the verifier said.
        log: String,
    },
}

/// What [`SinkError::Bpf`] calls the last step.
const ATTACHMENT: &str = "a program on the interface";

/// What was dropped so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// RTP packets.
    pub packets: u64,
    /// Their bytes, UDP payload.
    pub bytes: u64,
}

/// See the module's header. Everything leaves with it.
#[derive(Debug)]
pub struct DropSink {
    /// By port: 1 where RTP passes.
    hears: Map,
    dropped: Map,
    mode: AttachMode,
    _attached: OwnedFd,
}

impl DropSink {
    /// Puts the program on the generator's end; called on a thread that entered `network`.
    ///
    /// Where the driver takes no program, the stack runs it and a sentence is printed.
    ///
    /// # Errors
    /// No right to it, or a kernel that is too old.
    pub fn attach(network: &Network) -> Result<Self, SinkError> {
        match Self::attach_as(network, AttachMode::Native) {
            Err(SinkError::Bpf { what: ATTACHMENT, source }) => {
                eprintln!("XDP in the driver of veth is refused ({source}): the stack runs it.");
                Self::attach_as(network, AttachMode::Generic)
            }
            outcome => outcome,
        }
    }

    /// Puts the program on the relay's own end, where a message of many datagrams is still one: what
    /// sending costs with a card that cuts messages up itself (UDP segmentation offload), up to its
    /// driver. On the far end the kernel cuts them up, and copies each datagram for XDP.
    ///
    /// # Errors
    /// No right to it, or a kernel before 6.6.
    pub fn attach_as_card(network: &Network) -> Result<Self, SinkError> {
        Self::attach_as(network, AttachMode::Egress)
    }

    fn attach_as(network: &Network, mode: AttachMode) -> Result<Self, SinkError> {
        let hears = Map::new(MapKind::Array, 1, 1 << 16)?;
        let dropped = Map::new(MapKind::PerCpuArray, program::COUNTERS_BYTES, 1)?;
        let (hears_number, dropped_number) = (hears.number(), dropped.number());
        let program = match mode {
            AttachMode::Native | AttachMode::Generic => {
                program::receiving(hears_number, dropped_number)
            }
            AttachMode::Egress => program::sending(hears_number, dropped_number),
        };
        let program = bpf::load(&program, mode)?;
        let attached = match mode {
            AttachMode::Native => bpf::attach(&program, network.interface, mode),
            AttachMode::Generic => {
                network.segment_at_relay()?;
                bpf::attach(&program, network.interface, mode)
            }
            AttachMode::Egress => {
                let attach = || bpf::attach(&program, network.relay_interface, mode);
                network.relay().run(attach).and_then(|attached| attached)
            }
        };
        let attached = attached.map_err(|source| SinkError::Bpf { what: ATTACHMENT, source })?;
        Ok(Self { hears, dropped, mode, _attached: attached })
    }

    /// Where the program runs.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Lets RTP through to a port of the generator, or no longer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_hears(&self, port: u16, hears: Hears) -> io::Result<()> {
        self.hears.set(u32::from(port), hears as u8)
    }

    /// What was dropped so far, on all CPUs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counts(&self) -> io::Result<Dropped> {
        let values = self.dropped.get(0)?;
        let mut sum = Dropped::default();
        for value in values.chunks_exact(program::COUNTERS_BYTES as usize) {
            let (packets, bytes) = value.split_at(8);
            let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
            sum.packets += number(packets);
            sum.bytes += number(bytes);
        }
        Ok(sum)
    }
}

/// Whether a port gets its RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    /// It is dropped and counted.
    No = 0,
    /// It passes.
    Yes = 1,
}

impl Sink for DropSink {
    fn hear(&self, viewer: SocketAddr) -> io::Result<()> {
        self.set_hears(viewer.port(), Hears::Yes)
    }

    fn dropped(&self) -> io::Result<u64> {
        Ok(self.counts()?.packets)
    }
}
