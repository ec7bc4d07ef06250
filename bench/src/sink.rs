//! What stands between a server and viewers too many to be received on the same machine.

use std::io;
use std::net::SocketAddr;

/// Lets control (ICE, DTLS, RTCP) through to every viewer and media to those alone who hear.
pub trait Sink: Send + Sync {
    /// The viewer at this address is to get its media. Called before it joins.
    ///
    /// # Errors
    /// The sink cannot be told.
    fn hear(&self, viewer: SocketAddr) -> io::Result<()>;

    /// RTP packets that the others were sent so far: counted and dropped.
    ///
    /// # Errors
    /// The sink cannot be asked.
    fn dropped(&self) -> io::Result<u64>;
}
