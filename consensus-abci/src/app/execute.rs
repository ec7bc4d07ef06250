//! One transaction: admitted, charged, and then done whole or not at all.
//!
//! What fails before the charge (its form, its signature, its nonce, its fee) changes nothing.
//! What fails later costs the whole fee and the nonce.

use chain_types::{
    Account, AccountId, Balance, ChainEvent, Params, Payload, ResultCode, Transaction,
};

use super::{
    access::NewAccess,
    form,
    redeem::EntryOutcome,
    stake::NewValidator,
    state::{BlockState, StateError, Stop},
    streams::{NewStream, StreamChanges},
};

/// What became of a transaction in a block.
#[derive(Debug)]
pub(super) struct Executed {
    /// `None`: it was done.
    pub(super) refused: Option<(ResultCode, String)>,
    /// What is hashed with the code.
    pub(super) data: Vec<u8>,
    /// What happened, the fee first.
    pub(super) events: Vec<ChainEvent>,
}

impl Executed {
    fn refused(code: ResultCode, log: String) -> Self {
        Self { refused: Some((code, log)), data: Vec::new(), events: Vec::new() }
    }

    /// 0 or the code.
    pub(super) fn code(&self) -> u32 {
        self.refused.as_ref().map_or(0, |(code, _)| code.code())
    }
}

/// A code and a sentence.
pub(super) type Refusal = (ResultCode, String);

/// Reads a transaction and checks what needs no state but the parameters.
pub(super) fn read(bytes: &[u8], params: &Params) -> Result<Transaction, Refusal> {
    let bytes_max = params.transaction_bytes_max;
    if bytes.len() > bytes_max as usize {
        let len_bytes = bytes.len();
        let log = format!("the transaction has {len_bytes} bytes, at most {bytes_max} are allowed");
        return Err((ResultCode::TooLarge, log));
    }
    let transaction =
        Transaction::decode(bytes).map_err(|error| (ResultCode::Decode, error.to_string()))?;
    form::check(&transaction.body.payload).map_err(|(code, log)| (code, log.to_owned()))?;
    Ok(transaction)
}

/// Checks its last height and its fee for a block of `height`.
pub(super) fn check_offer(
    transaction: &Transaction,
    len_bytes: usize,
    height: u64,
    params: &Params,
) -> Result<(), Refusal> {
    let body = &transaction.body;
    if body.valid_until_height != 0 && body.valid_until_height < height {
        let log = format!("valid until height {}, this is {height}", body.valid_until_height);
        return Err((ResultCode::Expired, log));
    }
    let least = params.fee_min(&body.payload, len_bytes);
    if body.fee < least {
        let log = format!("the fee is {} units, at least {least} are needed", body.fee);
        return Err((ResultCode::Fee, log));
    }
    Ok(())
}

/// The sentence for a payer that cannot pay.
pub(super) fn cannot_pay(balance: Balance, fee: Balance) -> Refusal {
    (ResultCode::Funds, format!("the fee is {fee} units, its payer has {balance}"))
}

impl BlockState {
    /// Executes a transaction whose signatures were verified, or not, before.
    pub(super) fn execute(
        &mut self,
        read: Result<Transaction, Refusal>,
        len_bytes: usize,
        is_signed: bool,
    ) -> Result<Executed, StateError> {
        let transaction = match read {
            Ok(transaction) => transaction,
            Err((code, log)) => return Ok(Executed::refused(code, log)),
        };
        if let Some((code, log)) = self.refusal(&transaction, len_bytes, is_signed)? {
            return Ok(Executed::refused(code, log));
        }
        let (signer, payer) = (transaction.body.signer, transaction.fee_payer());
        let (nonce, fee) = (transaction.body.nonce, transaction.body.fee);
        match self.charge(&signer, &payer, fee) {
            Ok(()) => {}
            Err(Stop::Rejected(code, log)) => {
                self.drop_writes();
                return Ok(Executed::refused(code, log));
            }
            Err(Stop::Fatal(error)) => return Err(error),
        }
        let mut events = self.keep();
        let mut outcomes = Vec::new();
        let done = self.apply(&signer, nonce, transaction.body.payload, &mut outcomes);
        let data = EntryOutcome::encode_all(&outcomes);
        let refused = match done {
            Ok(()) => {
                events.extend(self.keep());
                None
            }
            Err(Stop::Rejected(code, log)) => {
                self.drop_writes();
                Some((code, log))
            }
            Err(Stop::Fatal(error)) => return Err(error),
        };
        Ok(Executed { refused, data, events })
    }

    /// Why a transaction is not even charged.
    fn refusal(
        &self,
        transaction: &Transaction,
        len_bytes: usize,
        is_signed: bool,
    ) -> Result<Option<Refusal>, StateError> {
        if let Err(refusal) = check_offer(transaction, len_bytes, self.height, &self.params) {
            return Ok(Some(refusal));
        }
        let (signer, payer) = (transaction.body.signer, transaction.fee_payer());
        let Account { nonce: next, balance } = self.account(&signer)?;
        if transaction.body.nonce != next {
            let log = format!("the nonce is {}, the next is {next}", transaction.body.nonce);
            return Ok(Some((ResultCode::Nonce, log)));
        }
        if !is_signed {
            let log = "a signature does not fit its key, the bytes and this chain".to_owned();
            return Ok(Some((ResultCode::Signature, log)));
        }
        let balance = if payer == signer { balance } else { self.account(&payer)?.balance };
        let fee = transaction.body.fee;
        Ok((balance < fee).then(|| cannot_pay(balance, fee)))
    }

    fn apply(
        &mut self,
        signer: &AccountId,
        nonce: u64,
        payload: Payload,
        outcomes: &mut Vec<EntryOutcome>,
    ) -> Result<(), Stop> {
        match payload {
            Payload::Transfer { to, amount } => self.transfer(signer, &to, amount),
            Payload::RegisterStream {
                title,
                policy,
                price,
                split,
                origin_relay,
                issuers,
                codecs,
                ext,
            } => {
                let new =
                    NewStream { title, policy, price, split, origin_relay, issuers, codecs, ext };
                self.register_stream(signer, nonce, new)
            }
            Payload::UpdateStream { stream, title, policy, origin_relay, codecs, ext } => {
                let changes = StreamChanges { title, policy, origin_relay, codecs, ext };
                self.update_stream(signer, &stream, changes)
            }
            Payload::EndStream { stream } => self.end_stream(signer, &stream),
            Payload::SetPrice { stream, price, from_height } => {
                self.set_price(signer, &stream, price, from_height)
            }
            Payload::SetSplit { stream, split, from_height } => {
                self.set_split(signer, &stream, split, from_height)
            }
            Payload::SetIssuers { stream, issuers } => self.set_issuers(signer, &stream, issuers),
            Payload::RegisterRelay { relay, bond } => self.register_relay(signer, relay, bond),
            Payload::UpdateRelay { relay } => self.update_relay(signer, relay),
            Payload::OpenChannel { deposit, voucher_key, expires_height, reserves } => {
                self.open_channel(signer, nonce, deposit, &voucher_key, expires_height, &reserves)
            }
            Payload::TopUp { channel, amount, reserves } => {
                self.top_up(signer, &channel, amount, &reserves)
            }
            Payload::Reserve { channel, reserve } => self.reserve(signer, &channel, &reserve),
            // The roots are for auditors, who find them in the block.
            Payload::Redeem { entries, watch_root: _, qos_root: _ } => {
                self.redeem(signer, &entries, outcomes)
            }
            Payload::RequestClose { channel } => self.request_close(signer, &channel),
            Payload::Finalize { channel } => self.finalize(&channel),
            Payload::BuyAccess { stream, terms_version, max_price } => {
                self.buy_access(signer, &stream, terms_version, max_price)
            }
            Payload::GrantAccess { stream, viewer, valid_until, payment_status, max_layer } => {
                let new = NewAccess { valid_until, payment_status, max_layer };
                self.grant_access(signer, &stream, &viewer, new)
            }
            Payload::RevokeAccess { stream, viewer } => {
                self.revoke_access(signer, &stream, &viewer)
            }
            Payload::BumpRevocation { stream } => self.bump_revocation(signer, &stream),
            payload => self.apply_stake(signer, payload),
        }
    }

    /// Whatever is about stake, bonds and what validators decide.
    fn apply_stake(&mut self, signer: &AccountId, payload: Payload) -> Result<(), Stop> {
        match payload {
            Payload::UnbondRelay => self.unbond_relay(signer),
            Payload::CreateValidator {
                consensus_key,
                possession,
                moniker,
                website,
                commission,
                self_delegation,
            } => {
                let new = NewValidator {
                    consensus_key,
                    possession,
                    moniker,
                    website,
                    commission,
                    self_delegation,
                };
                self.create_validator(signer, new)
            }
            Payload::EditValidator { moniker, website, commission_bps } => {
                self.edit_validator(signer, moniker, website, commission_bps)
            }
            Payload::Delegate { validator, amount } => self.delegate(signer, &validator, amount),
            Payload::Undelegate { validator, amount } => {
                self.undelegate(signer, &validator, amount)
            }
            Payload::Redelegate { from, to, amount } => self.redelegate(signer, &from, &to, amount),
            Payload::WithdrawRewards { validator } => self.withdraw(signer, &validator),
            Payload::Unjail => self.unjail(signer),
            Payload::SubmitEvidence { evidence } => self.submit_evidence(signer, &evidence),
            Payload::Propose { title, text, params } => self.propose(signer, title, text, params),
            Payload::Vote { proposal, approve } => self.vote(signer, proposal, approve),
            Payload::ScheduleUpgrade { upgrade } => self.schedule_upgrade(signer, upgrade),
            other => unreachable!("{} is applied above", other.kind()),
        }
    }
}
