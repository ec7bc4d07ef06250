//! What to do with an offer: perfect negotiation, where one of two yields.

/// How a connection stands when an offer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// An offer of ours has no answer yet.
    pub has_offered: bool,
    /// Ours yields: the smaller node id is the polite one.
    pub is_polite: bool,
    /// The offer is of the very session that this connection has already described itself to.
    pub continues: bool,
}

/// What to do with an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer it on a new connection, which takes the place of one that there is.
    Replace,
    /// Answer it on the connection that there is.
    Continue,
    /// Drop it: ours goes on, and the peer yields.
    Ignore,
}

/// Decides; `None` is no connection.
pub fn decide(standing: Option<Standing>) -> Decision {
    match standing {
        Some(Standing { has_offered: true, is_polite: false, .. }) => Decision::Ignore,
        Some(Standing { continues: true, .. }) => Decision::Continue,
        Some(Standing { continues: false, .. }) | None => Decision::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_offers_that_cross_exactly_one_is_answered() {
        for continues in [false, true] {
            let offered =
                |is_polite| decide(Some(Standing { has_offered: true, is_polite, continues }));
            assert_eq!(offered(false), Decision::Ignore);
            assert_ne!(offered(true), Decision::Ignore);
        }
    }

    #[test]
    fn an_offer_of_the_same_session_continues_and_another_replaces() {
        for is_polite in [false, true] {
            let offered =
                |continues| decide(Some(Standing { has_offered: false, is_polite, continues }));
            assert_eq!(offered(true), Decision::Continue);
            assert_eq!(offered(false), Decision::Replace);
        }
        assert_eq!(decide(None), Decision::Replace);
    }
}
