//! Two network namespaces and a veth pair between them.
//!
//! No name is made for either: they live by a descriptor and by the threads in them, and are gone
//! with the process, however it ends.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::SinkError;

/// Address of the generator's end, /24.
pub const GENERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of the relay's end, /24.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const GENERATOR_LINK: &str = "generator";
const RELAY_LINK: &str = "relay";
const GENERATOR_MAC: &str = "02:00:00:00:00:01";
const RELAY_MAC: &str = "02:00:00:00:00:02";

/// The thread's own namespace, and the relay's.
#[derive(Debug)]
pub struct Network {
    relay: RelayNamespace,
    /// The generator's end of the pair.
    pub(super) interface: u32,
    /// The relay's end, in its namespace.
    pub(super) relay_interface: u32,
}

impl Network {
    /// Takes the calling thread, and the threads and processes that it starts from now on, into a
    /// network namespace with [`GENERATOR`]'s address; a second one has [`RELAY`]'s.
    ///
    /// Call it before other threads are started: those that exist stay where they are.
    ///
    /// # Errors
    /// No right to it, or no `ip`.
    pub fn enter() -> Result<Self, SinkError> {
        unshare().map_err(SinkError::NoNamespace)?;
        let relay = RelayNamespace::new()?;
        let number = relay.0.as_raw_fd();
        let relay_path = format!("/proc/{}/fd/{number}", std::process::id());
        // The peers' link addresses are told beforehand, so that no ARP is in a figure; IPv6 is
        // left without addresses, so that it says nothing.
        ip(
            &[
                "link set lo up".to_owned(),
                format!("link add {GENERATOR_LINK} type veth peer name {RELAY_LINK}"),
                format!("link set {RELAY_LINK} netns {relay_path}"),
                end(GENERATOR_LINK, GENERATOR, GENERATOR_MAC, RELAY, RELAY_MAC),
            ],
            None,
        )?;
        ip(
            &[
                "link set lo up".to_owned(),
                end(RELAY_LINK, RELAY, RELAY_MAC, GENERATOR, GENERATOR_MAC),
            ],
            Some(&relay),
        )?;
        let interface = index(c"generator").map_err(SinkError::NoInterface)?;
        let relay_interface = relay.run(|| index(c"relay")).and_then(|index| index);
        let relay_interface = relay_interface.map_err(SinkError::NoInterface)?;
        Ok(Self { relay, interface, relay_interface })
    }

    /// Where the relay belongs.
    pub fn relay(&self) -> &RelayNamespace {
        &self.relay
    }

    /// Has the relay's end take no GSO message whole, so that a program on the other end sees each
    /// datagram. A native XDP program on a veth has the driver do the same.
    pub(super) fn segment_at_relay(&self) -> Result<(), SinkError> {
        ip(&[format!("link set {RELAY_LINK} gso_max_segs 1")], Some(&self.relay))
    }

    /// Frames that the relay's end lost since it was made, because the other end's queue was full.
    ///
    /// # Errors
    /// The kernel's table of interfaces cannot be read.
    pub fn lost(&self) -> io::Result<u64> {
        let table = self.relay.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        lost(&table, RELAY_LINK).ok_or_else(|| io::Error::other("no such interface in net/dev"))
    }
}

/// Number of an interface of the thread's namespace.
fn index(name: &CStr) -> io::Result<u32> {
    // SAFETY: the name is a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index) }
}

/// Commands for one end, up with address and neighbour.
fn end(link: &str, own: Ipv4Addr, mac: &str, peer: Ipv4Addr, peer_mac: &str) -> String {
    format!(
        "link set {link} address {mac} addrgenmode none\n\
         address add {own}/24 dev {link}\n\
         link set {link} up\n\
         neighbour replace {peer} lladdr {peer_mac} dev {link} nud permanent"
    )
}

/// Frames that were not sent: the fourth figure of the sending half (`proc_net_dev(5)`).
fn lost(table: &str, link: &str) -> Option<u64> {
    let figures = table.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        (name.trim() == link).then_some(figures)
    })?;
    figures.split_whitespace().nth(11)?.parse().ok()
}

/// Runs `ip` on a list of commands.
fn ip(commands: &[String], within: Option<&RelayNamespace>) -> Result<(), SinkError> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    if let Some(namespace) = within {
        namespace.adopt(&mut command).map_err(SinkError::NoIp)?;
    }
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(SinkError::NoIp)?;
    let commands = commands.join("\n") + "\n";
    let mut stdin = child.stdin.take().expect("it is piped");
    // A reader that has gone says why itself, below.
    let _gone = stdin.write_all(commands.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(SinkError::NoIp)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SinkError::Ip { commands, message })
}

/// A network namespace that lives as long as this descriptor, or a thread in it.
#[derive(Debug)]
pub struct RelayNamespace(OwnedFd);

impl RelayNamespace {
    fn new() -> Result<Self, SinkError> {
        let made = std::thread::spawn(|| {
            unshare()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
        Ok(Self(file.map_err(SinkError::NoNamespace)?.into()))
    }

    /// Has a command's child start in it.
    ///
    /// # Errors
    /// No free descriptor.
    pub fn adopt(&self, command: &mut Command) -> io::Result<()> {
        let namespace = self.0.try_clone()?;
        // SAFETY: `setns` is a plain system call, as is allowed between fork and exec; the closure
        // owns the descriptor.
        unsafe { command.pre_exec(move || enter(namespace.as_fd())) };
        Ok(())
    }

    /// Takes the calling thread into it; its sockets from now on belong there and stay there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> io::Result<()> {
        enter(self.0.as_fd())
    }

    /// Runs something on a thread in it.
    ///
    /// # Errors
    /// The thread cannot enter.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    }
}

fn unshare() -> io::Result<()> {
    // SAFETY: a flag and no memory.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is involved.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_frames_are_the_fourth_figure_of_the_sending_half() {
        let table = "Inter-|   Receive      |  Transmit\n face |bytes\n\
                     lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                     relay: 1 2 3 4 5 6 7 8 9 10 11 99 13 14 15 16\n";
        assert_eq!(lost(table, "relay"), Some(99));
        assert_eq!(lost(table, "lo"), Some(12));
        assert_eq!(lost(table, "eth0"), None);
    }
}
