//! The key hook: a DTLS provider around str0m's own that keeps the DTLS-SRTP keys for us.
//!
//! str0m drives ICE and DTLS; when its DTLS engine hands out keying material (RFC 5764 §4.2) the
//! wrapper puts it into a [`KeySlot`] and passes on nothing. str0m therefore never owns an SRTP
//! context and can emit neither SRTP nor SRTCP. What follows from that inside str0m:
//! `Event::MediaAdded` never fires and `Rtc::is_connected` stays false; `Event::Connected` is the
//! signal, and it comes after the certificate was checked against the offer's fingerprint.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use str0m::config::{DtlsCert, DtlsVersion};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m::crypto::{CryptoError, CryptoProvider};

use super::srtp::SrtpKeys;

/// Where the keys of one session wait between the handshake and `Event::Connected`.
///
/// Both ends live on one shard; the lock is there because str0m wants its parts `Sync`.
#[derive(Debug, Clone, Default)]
pub struct KeySlot(Arc<Mutex<Option<SrtpKeys>>>);

impl KeySlot {
    /// The keys, once; `None` before the handshake is through.
    pub fn take(&self) -> Option<SrtpKeys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, keys: SrtpKeys) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }
}

thread_local! {
    /// str0m's provider call carries no argument of ours, so the slot of the session that is being
    /// built on this thread waits here for it.
    static NEXT_SLOT: RefCell<Option<KeySlot>> = const { RefCell::new(None) };
}

/// Runs `build` (which calls `RtcConfig::build`) with `slot` as the place for its keys.
pub(super) fn with_slot<T>(slot: &KeySlot, build: impl FnOnce() -> T) -> T {
    NEXT_SLOT.with(|next| *next.borrow_mut() = Some(slot.clone()));
    let built = build();
    NEXT_SLOT.with(|next| *next.borrow_mut() = None);
    built
}

/// str0m's aws-lc-rs provider with the hook in front of its DTLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let build = || {
        let mut provider = str0m_aws_lc_rs::default_provider();
        provider.dtls_provider = &HookProvider;
        Arc::new(provider)
    };
    PROVIDER.get_or_init(build).clone()
}

/// A fresh self-signed certificate; `None` if the system has no randomness.
pub fn generate_certificate() -> Option<DtlsCert> {
    HookProvider.generate_certificate()
}

#[derive(Debug)]
struct HookProvider;

impl DtlsProvider for HookProvider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        str0m_aws_lc_rs::default_provider().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let provider = str0m_aws_lc_rs::default_provider().dtls_provider;
        let inner = provider.new_dtls(cert, now, version, mtu)?;
        // Without a slot (a test that builds its own Rtc) the keys are simply dropped.
        let slot = NEXT_SLOT.with(|next| next.borrow_mut().take()).unwrap_or_default();
        Ok(Box::new(HookedDtls { inner, slot, past: now - Duration::from_millis(1) }))
    }
}

#[derive(Debug)]
struct HookedDtls {
    inner: Box<dyn DtlsInstance>,
    slot: KeySlot,
    /// A deadline in the past means "poll again at once"; it stands in for the swallowed keys.
    past: Instant,
}

impl DtlsInstance for HookedDtls {
    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.inner.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let is_client = self.inner.is_active();
        match self.inner.poll_output(buf) {
            DtlsOutput::KeyingMaterial(material, profile) => {
                let material = material[..profile.keying_material_len()].to_vec();
                self.slot.put(SrtpKeys { profile, material, is_client });
                DtlsOutput::Timeout(self.past)
            }
            other => other,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}
