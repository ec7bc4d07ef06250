//! Where runs happen: in network namespaces of their own where that is allowed, else on the host.
//!
//! A thread enters the namespaces and does there what it is given; who asks stays on the host, where
//! servers of others are.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, mpsc};

use anyhow::Context;
use bench::child::Place;

use crate::bare_loop::Delivery;
use crate::drop_sink::{DropSink, GENERATOR, Network, RELAY};

/// What is done in the field.
type Job = Box<dyn FnOnce(&Network) + Send>;

/// See the module's header.
pub struct Field {
    /// `None` where there are no namespaces.
    thread: Option<mpsc::Sender<Job>>,
    /// Why there are none.
    pub refused: Option<String>,
}

/// What a run is given.
pub struct Ground<'a> {
    /// Where servers are started.
    pub place: Place<'a>,
    /// What takes the media, if not the viewers.
    pub sink: Option<Arc<DropSink>>,
    network: Option<&'a Network>,
}

impl Ground<'_> {
    /// Where the bare loop's packets go.
    pub fn delivery(&self) -> Delivery<'_> {
        match (self.network, &self.sink) {
            (Some(network), Some(sink)) => Delivery::Drop(network, sink),
            _ => Delivery::Loopback,
        }
    }
}

impl Field {
    /// Makes the namespaces if it may.
    ///
    /// # Errors
    /// No thread.
    pub fn open() -> anyhow::Result<Self> {
        let (jobs, given) = mpsc::channel::<Job>();
        let (told, ready) = mpsc::channel();
        // It ends with the channel.
        let _detached =
            std::thread::Builder::new().name("field".into()).spawn(
                move || match Network::enter() {
                    Ok(network) => {
                        let _asker_has_gone = told.send(None);
                        given.iter().for_each(|job| job(&network));
                    }
                    Err(error) => {
                        let _asker_has_gone = told.send(Some(error.to_string()));
                    }
                },
            )?;
        let refused = ready.recv().context("the thread of the field has ended")?;
        Ok(Self { thread: refused.is_none().then_some(jobs), refused })
    }

    /// Whether there are namespaces, and so a drop sink.
    pub fn has_namespaces(&self) -> bool {
        self.thread.is_some()
    }

    /// Works over loopback: that of the namespace, whose other address servers take, or the host's.
    ///
    /// # Errors
    /// What the work says.
    pub fn over_loopback<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ground<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let on =
            |address| Ground { place: Place { address, adopt: None }, sink: None, network: None };
        match &self.thread {
            Some(thread) => hand(thread, move |_| work(&on(IpAddr::V4(GENERATOR)))),
            // Janus takes no loopback address; where the machine has another, all take that.
            None => {
                let machine = Place::of_machine().map(|place| place.address);
                work(&on(machine.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))))
            }
        }
    }

    /// Works with the server behind the drop sink, of which each work has its own.
    ///
    /// # Errors
    /// No namespaces, no sink; what the work says.
    pub fn behind_drop_sink<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ground<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let thread = self.thread.as_ref().context("the drop sink needs root")?;
        hand(thread, move |network| {
            let sink = Arc::new(DropSink::attach(network)?);
            let adopt = |command: &mut std::process::Command| network.relay().adopt(command);
            let place = Place { address: IpAddr::V4(RELAY), adopt: Some(&adopt) };
            work(&Ground { place, sink: Some(sink), network: Some(network) })
        })
    }
}

/// Has the thread do it, and waits.
fn hand<T: Send + 'static>(
    thread: &mpsc::Sender<Job>,
    work: impl FnOnce(&Network) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (done, outcome) = mpsc::channel();
    let job: Job = Box::new(move |network| {
        let _asker_has_gone = done.send(work(network));
    });
    thread.send(job).ok().context("the thread of the field has ended")?;
    outcome.recv().context("the work in the field panicked")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_over_loopback_is_done_with_namespaces_or_without_and_its_error_comes_back() {
        for field in [Field::open().expect("a thread"), Field { thread: None, refused: None }] {
            let bound = field.over_loopback(|ground| {
                let socket = std::net::UdpSocket::bind((ground.place.address, 0))?;
                Ok(socket.local_addr()?.ip() == ground.place.address)
            });
            assert!(bound.expect("the address is the machine's"));
            let failed = field.over_loopback(|_| -> anyhow::Result<()> { anyhow::bail!("why") });
            assert_eq!(failed.expect_err("it failed").to_string(), "why");
            println!("namespaces: {:?}", field.refused);
            if !field.has_namespaces() {
                assert!(field.behind_drop_sink(|_| Ok(())).is_err());
            }
        }
    }
}
