//! Names of the two links, as the configuration, the log and a metric's label say them.

use std::fmt;
use std::str::FromStr;

/// Which body of [`super::Link`] carries the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// [`super::UringLink`].
    IoUring,
    /// [`super::EpollLink`].
    Epoll,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkKind::IoUring => "io_uring",
            LinkKind::Epoll => "epoll",
        })
    }
}

/// A name that is neither link's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no link is called {0:?}; there are io_uring and epoll")]
pub struct UnknownLink(String);

impl FromStr for LinkKind {
    type Err = UnknownLink;

    fn from_str(name: &str) -> Result<LinkKind, UnknownLink> {
        match name {
            "io_uring" => Ok(LinkKind::IoUring),
            "epoll" => Ok(LinkKind::Epoll),
            _ => Err(UnknownLink(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_is_read_back_and_another_refused() {
        for kind in [LinkKind::IoUring, LinkKind::Epoll] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("uring".parse::<LinkKind>(), Err(UnknownLink("uring".to_owned())));
    }
}
