//! The connections of all peers: each in a slot, by a name that stands for no later one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::rooms::epoll::{Epoll, Interest, Ready};
use crate::rooms::link::Link;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A WebSocket.
    Socket,
    /// Polls, one after the other.
    Poll,
    /// Other requests.
    Post,
}

/// A place for a connection.
pub struct Slot {
    /// The connection; `None` while it is being read, and between two.
    pub link: Option<Link>,
    /// Whose it is.
    pub owner: u32,
    /// See [`Lane`].
    pub lane: Lane,
    /// The server has agreed to speak WebSocket.
    pub upgraded: bool,
    generation: u32,
    interest: Interest,
}

/// All connections.
pub struct Connections {
    epoll: Epoll,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Connections {
    /// None yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, slots: Vec::new(), free: Vec::new() })
    }

    /// Begins to connect and gives the connection's name; `first` is sent once it is made.
    ///
    /// # Errors
    /// As [`Link::connect`], or the kernel's.
    pub fn open(
        &mut self,
        from: Option<Ipv4Addr>,
        to: SocketAddr,
        owner: u32,
        lane: Lane,
        first: Vec<u8>,
    ) -> io::Result<u64> {
        let mut link = Link::connect(from, to)?;
        *link.outbox() = first;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let interest = Interest::ReadWrite;
                let (link, generation, upgraded) = (None, 0, false);
                self.slots.push(Slot { link, owner, lane, upgraded, generation, interest });
                self.slots.len() as u32 - 1
            }
        };
        let place = &mut self.slots[slot as usize];
        place.generation += 1;
        let name = token(slot, place.generation);
        self.epoll.add(link.descriptor(), name, Interest::ReadWrite)?;
        (place.owner, place.lane, place.upgraded) = (owner, lane, false);
        (place.link, place.interest) = (Some(link), Interest::ReadWrite);
        Ok(name)
    }

    /// The slot of a connection that is there and is not being read.
    pub fn find(&self, name: Option<u64>) -> Option<usize> {
        let name = name?;
        let slot = (name & u64::from(u32::MAX)) as usize;
        let place = self.slots.get(slot)?;
        (place.link.is_some() && u64::from(place.generation) == name >> 32).then_some(slot)
    }

    /// A slot that [`find`](Self::find) has named.
    pub fn at(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// Frees a slot; false when it is free already.
    pub fn close(&mut self, slot: usize) -> bool {
        let is_closed = self.slots[slot].link.take().is_some();
        if is_closed {
            self.free.push(slot as u32);
        }
        is_closed
    }

    /// Waits until some can go on, or for `span`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self, span: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.epoll.wait(span, ready)
    }

    /// Writes what the kernel takes; the rest goes when there is room.
    ///
    /// # Errors
    /// The connection failed, or could not be made.
    pub fn flush(&mut self, slot: usize) -> io::Result<()> {
        let place = &mut self.slots[slot];
        let Some(link) = &mut place.link else { return Ok(()) };
        let wanted = if link.flush()? { Interest::Read } else { Interest::ReadWrite };
        if place.interest != wanted {
            place.interest = wanted;
            let name = token(slot as u32, place.generation);
            self.epoll.change(link.descriptor(), name, wanted)?;
        }
        Ok(())
    }
}

fn token(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}
