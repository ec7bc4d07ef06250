//! Invites to private rooms: a chain of signed links from the owner to whoever may come in.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NodeKey, PublicKey, base32_lower, hex, hex_bytes};
use crate::object::Object;

/// What an encoded invite begins with.
pub const INVITE_PREFIX: &str = "si1.";

/// Links of one invite; a longer chain is refused.
pub const INVITE_LINKS_MAX: usize = 4;

/// Longest encoded invite that is looked at, in bytes: four links of fullest form.
const INVITE_BYTES_MAX: usize = 4096;

/// What an invite lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Can {
    Join,
    Invite,
}

impl Can {
    fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
        }
    }
}

/// One link: `by` lets `to` do what `can` says in `room` until `exp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Public key of the inviter, 64 hex digits.
    pub by: String,
    /// Node id of the invited, or `*`.
    pub to: String,
    pub room: String,
    /// Unix ms.
    pub exp: u64,
    pub can: Vec<Can>,
    /// Signature by `by`, 128 hex digits.
    pub sig: String,
}

/// A chain of links, the owner's first. What [`Invite::decode`] gives has a good form and says
/// nothing yet about signatures: [`Invite::check`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite(Vec<Link>);

/// Why an invite opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    #[error("an invite is `si1.` and base64url of a JSON array of 1 to {INVITE_LINKS_MAX} links")]
    Form,
    #[error("the invite is for another room")]
    OtherRoom,
    #[error("the first link is not the room owner's")]
    NotOwner,
    #[error("a link is signed by somebody whom the link before does not name")]
    Broken,
    #[error("a link was made by somebody who may not invite")]
    MayNotInvite,
    #[error("a link allows more, or longer, than the one before it")]
    Widened,
    #[error("the invite has expired; ask for a new one")]
    Expired,
    #[error("a link's signature does not fit it")]
    Signature,
    #[error("the invite is for somebody else")]
    OtherNode,
    #[error("the invite does not allow to join")]
    MayNotJoin,
}

/// Name of the private room of `owner` with this salt: `p:` and 32 base32 characters.
pub fn private_room(owner: &PublicKey, salt: &str) -> String {
    let digest = Sha256::digest(format!("sutantra/room/v1\n{owner}\n{salt}"));
    let mut hash = base32_lower(&digest);
    hash.truncate(32);
    format!("p:{hash}")
}

fn link_text(network_id: &str, link: &Link, sig_before: &str) -> String {
    let can: Vec<&str> = link.can.iter().map(|can| can.as_str()).collect();
    format!(
        "sutantra/invi/v1\n{network_id}\n{}\n{}\n{}\n{}\n{}\n{sig_before}",
        link.room,
        link.by,
        link.to,
        link.exp,
        can.join(",")
    )
}

impl Invite {
    /// The owner's own invite: one link.
    pub fn issue(
        owner: &NodeKey,
        network_id: &str,
        room: &str,
        to: &str,
        exp: u64,
        can: &[Can],
    ) -> Self {
        Self(Vec::new()).and(owner, network_id, room, to, exp, can)
    }

    /// This invite handed on by `key` to `to`. Whether `key` may is for [`Invite::check`].
    pub fn extend(self, key: &NodeKey, network_id: &str, to: &str, exp: u64, can: &[Can]) -> Self {
        let room = self.room().to_owned();
        self.and(key, network_id, &room, to, exp, can)
    }

    fn and(
        mut self,
        key: &NodeKey,
        network_id: &str,
        room: &str,
        to: &str,
        exp: u64,
        can: &[Can],
    ) -> Self {
        let mut link = Link {
            by: key.public().to_string(),
            to: to.to_owned(),
            room: room.to_owned(),
            exp,
            can: can.to_vec(),
            sig: String::new(),
        };
        let before = self.0.last().map_or("", |link| link.sig.as_str());
        link.sig = hex(&key.sign(link_text(network_id, &link, before).as_bytes()));
        self.0.push(link);
        self
    }

    /// The room that the first link names.
    pub fn room(&self) -> &str {
        self.0.first().map_or("", |link| &link.room)
    }

    /// The last link: who is invited, to what, until when. An invite has at least one.
    pub fn last(&self) -> &Link {
        self.0.last().expect("issue and decode make at least one link")
    }

    /// `si1.` and base64url.
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(&self.0).expect("links are strings and numbers");
        format!("{INVITE_PREFIX}{}", BASE64URL_NOPAD.encode(&json))
    }

    pub fn decode(text: &str) -> Result<Self, InviteError> {
        if text.len() > INVITE_BYTES_MAX {
            return Err(InviteError::Form);
        }
        let body = text.strip_prefix(INVITE_PREFIX).ok_or(InviteError::Form)?;
        let json = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InviteError::Form)?;
        let links: Vec<Object<Link>> =
            serde_json::from_slice(&json).map_err(|_| InviteError::Form)?;
        if !(1..=INVITE_LINKS_MAX).contains(&links.len()) {
            return Err(InviteError::Form);
        }
        Ok(Self(links.into_iter().map(|Object(link)| link).collect()))
    }

    /// Whether the chain leads from `owner` to its last link, unbroken, never widened and not
    /// expired at `now_ms`. Who may use it is for [`Invite::check_holder`].
    pub fn check(
        &self,
        network_id: &str,
        room: &str,
        owner: &PublicKey,
        now_ms: u64,
    ) -> Result<(), InviteError> {
        if self.0.is_empty() || self.0.len() > INVITE_LINKS_MAX {
            return Err(InviteError::Form);
        }
        let mut before: Option<&Link> = None;
        for link in &self.0 {
            if link.room != room {
                return Err(InviteError::OtherRoom);
            }
            let by: PublicKey = link.by.parse().map_err(|_| InviteError::Form)?;
            let signature = hex_bytes::<64>(&link.sig).ok_or(InviteError::Form)?;
            match before {
                None if by != *owner => return Err(InviteError::NotOwner),
                None => {}
                Some(before) if before.to != by.node_id() => return Err(InviteError::Broken),
                Some(before) if !before.can.contains(&Can::Invite) => {
                    return Err(InviteError::MayNotInvite);
                }
                Some(before) => {
                    let more = link.can.iter().any(|can| !before.can.contains(can));
                    if more || link.exp > before.exp {
                        return Err(InviteError::Widened);
                    }
                }
            }
            if link.exp <= now_ms {
                return Err(InviteError::Expired);
            }
            let sig_before = before.map_or("", |link| link.sig.as_str());
            if !by.verify(link_text(network_id, link, sig_before).as_bytes(), &signature) {
                return Err(InviteError::Signature);
            }
            before = Some(link);
        }
        Ok(())
    }

    /// Whether `node_id` may join by the (checked) chain.
    pub fn check_holder(&self, node_id: &str) -> Result<(), InviteError> {
        let last = self.last();
        if last.to != "*" && last.to != node_id {
            return Err(InviteError::OtherNode);
        }
        if !last.can.contains(&Can::Join) {
            return Err(InviteError::MayNotJoin);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: &str = "net";
    const NOW: u64 = 1_000;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed([seed; 32])
    }

    #[track_caller]
    fn check(make: impl FnOnce(&str) -> Invite, want: Result<(), InviteError>) {
        let owner = key(1);
        let room = private_room(&owner.public(), "salt");
        let invite = Invite::decode(&make(&room).encode()).unwrap();
        let got = invite
            .check(NET, &room, &owner.public(), NOW)
            .and_then(|()| invite.check_holder(&key(3).node_id()));
        assert_eq!(got, want);
    }

    const BOTH: &[Can] = &[Can::Join, Can::Invite];

    /// R89
    #[test]
    fn an_attenuated_chain_holds_and_a_widened_one_does_not() {
        let (two, three) = (key(2).node_id(), key(3).node_id());
        let first = |room: &str| Invite::issue(&key(1), NET, room, &two, 5_000, BOTH);
        let on = |room: &str, exp, can: &[Can]| first(room).extend(&key(2), NET, &three, exp, can);
        check(|room| Invite::issue(&key(1), NET, room, "*", 5_000, &[Can::Join]), Ok(()));
        check(|room| on(room, 4_000, &[Can::Join]), Ok(()));
        check(|room| on(room, 6_000, &[Can::Join]), Err(InviteError::Widened));
        check(|room| on(room, 4_000, &[Can::Invite]), Err(InviteError::MayNotJoin));
        check(
            |room| {
                Invite::issue(&key(1), NET, room, &two, 5_000, &[Can::Invite]).extend(
                    &key(2),
                    NET,
                    &three,
                    4_000,
                    BOTH,
                )
            },
            Err(InviteError::Widened),
        );
        check(
            |room| {
                Invite::issue(&key(1), NET, room, &two, 5_000, &[Can::Join]).extend(
                    &key(2),
                    NET,
                    &three,
                    4_000,
                    &[Can::Join],
                )
            },
            Err(InviteError::MayNotInvite),
        );
    }

    /// R89
    #[test]
    fn expired_forged_and_foreign_chains_open_nothing() {
        let (two, three) = (key(2).node_id(), key(3).node_id());
        check(
            |room| Invite::issue(&key(1), NET, room, &three, NOW, BOTH),
            Err(InviteError::Expired),
        );
        check(
            |room| Invite::issue(&key(2), NET, room, &three, 5_000, BOTH),
            Err(InviteError::NotOwner),
        );
        check(
            |room| Invite::issue(&key(1), "other", room, &three, 5_000, BOTH),
            Err(InviteError::Signature),
        );
        check(
            |_| Invite::issue(&key(1), NET, "p:x", &three, 5_000, BOTH),
            Err(InviteError::OtherRoom),
        );
        check(
            |room| Invite::issue(&key(1), NET, room, &two, 5_000, BOTH),
            Err(InviteError::OtherNode),
        );
        // A link to anybody names nobody who could hand it on.
        check(
            |room| {
                Invite::issue(&key(1), NET, room, "*", 5_000, BOTH).extend(
                    &key(2),
                    NET,
                    &three,
                    4_000,
                    BOTH,
                )
            },
            Err(InviteError::Broken),
        );
        // The second link of one chain does not fit behind another first link.
        check(
            |room| {
                let mut chain = Invite::issue(&key(1), NET, room, &two, 5_000, BOTH).extend(
                    &key(2),
                    NET,
                    &three,
                    4_000,
                    BOTH,
                );
                chain.0[0] = Invite::issue(&key(1), NET, room, &two, 5_001, BOTH).0.remove(0);
                chain
            },
            Err(InviteError::Signature),
        );
    }

    #[test]
    fn a_chain_has_one_to_four_links() {
        let mut invite = Invite::issue(&key(1), NET, "p:x", "*", 5_000, BOTH);
        for _ in 0..INVITE_LINKS_MAX {
            invite = invite.extend(&key(1), NET, "*", 5_000, BOTH);
        }
        assert_eq!(Invite::decode(&invite.encode()), Err(InviteError::Form));
        assert_eq!(Invite::decode("si1.W10"), Err(InviteError::Form));
        for bad in ["", "si1.", "si1.!", "W10", "si1.bnVsbA"] {
            assert_eq!(Invite::decode(bad), Err(InviteError::Form), "{bad}");
        }
        let array = br#"[["by","*","p:x",1,["join"],"sig"]]"#;
        let array = format!("{INVITE_PREFIX}{}", BASE64URL_NOPAD.encode(array));
        assert_eq!(Invite::decode(&array), Err(InviteError::Form), "a link is an object");
    }
}
