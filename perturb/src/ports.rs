//! Ports that no other run takes: blocks of numbers, each held by a lock on a file.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

/// Below what systems give to outgoing connections, and above what services have.
const FIRST: u16 = 10_300;
const BLOCK: u16 = 50;
const BLOCKS: u16 = 180;

/// A block of ports, held until this is dropped or the process ends.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    end: u16,
    _lock: File,
}

impl Ports {
    /// Takes a block that no other run has.
    ///
    /// # Errors
    /// The directory of locks cannot be written, or every block is taken.
    pub fn take(locks: &Path) -> io::Result<Self> {
        fs::create_dir_all(locks)?;
        for number in 0..BLOCKS {
            let file = locks.join(format!("ports-{number}"));
            let file = File::options().create(true).truncate(false).write(true).open(file)?;
            if file.try_lock().is_ok() {
                let next = FIRST + number * BLOCK;
                return Ok(Self { next, end: next + BLOCK, _lock: file });
            }
        }
        Err(io::Error::other("every block of ports is taken by another run: end one of them"))
    }

    /// A port of the block on which nobody listens.
    ///
    /// # Errors
    /// There is none left.
    pub fn free(&mut self) -> io::Result<SocketAddr> {
        while self.next < self.end {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next += 1;
            if TcpListener::bind(at).is_ok() {
                return Ok(at);
            }
        }
        Err(io::Error::other("no port is left: other programs listen where this one would"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_get_different_ports_and_one_that_ended_gives_its_back() {
        let dir = std::env::temp_dir().join(format!("perturb-ports-{}", std::process::id()));
        let mut first = Ports::take(&dir).expect("free");
        let mut second = Ports::take(&dir).expect("free");
        let (one, other) = (first.free().expect("a port"), second.free().expect("a port"));
        assert_ne!(one, other);
        assert!(
            other.port() >= one.port() - one.port() % BLOCK + BLOCK || other.port() < one.port()
        );
        let held = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, first.next))).ok();
        let skipped = first.next;
        assert!(held.is_none() || first.free().expect("a port").port() != skipped);
        drop(first);
        let mut again = Ports::take(&dir).expect("free");
        assert_eq!(again.free().expect("a port"), one);
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
