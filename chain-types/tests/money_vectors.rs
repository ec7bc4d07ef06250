//! `vectors/money.json`: the same file is read by the wallet's JavaScript tests.

use std::collections::BTreeMap;

use borsh::BorshSerialize;
use chain_types::{
    AccountId, Balance, Bind, ChannelId, Frame, GateReason, LaneKey, LaneState, Params, PayAck,
    PayReq, Payload, Policy, Price, QualityReport, Receipt, RelayFacts, ReserveRequest,
    SignedVoucher, SigningKey, SplitShares, StateKey, StreamId, Terms, TokenId, Transaction,
    TransactionBody, Voucher, lane, split,
    staking::{Commission, Evidence, Upgrade},
    transaction_hash,
};
use expect_test::expect_file;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CHAIN: &str = "sutantra-test-1";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn voucher() -> Voucher {
    Voucher {
        channel: ChannelId([1; 32]),
        payee: AccountId([2; 32]),
        stream: StreamId([3; 32]),
        lane: 1,
        terms_version: 1,
        nonce: 42,
        cumulative: Balance::of(42_000_000),
        media_ms: 42_000,
        bytes: 13_125_000,
        qos: [0; 32],
    }
}

fn bind(token_id: TokenId, channel: ChannelId) -> Bind {
    Bind {
        token_id,
        stream: StreamId([3; 32]),
        viewer: AccountId::from(&key(7)),
        holder_key: AccountId::from(&key(7)),
        relay_key: AccountId::from(&key(8)),
        client_fingerprint: [5; 32],
        relay_fingerprint: [6; 32],
        channel,
        terms_hash: terms().hash(),
    }
}

fn terms() -> Terms {
    let relay_key = AccountId::from(&key(8));
    Terms {
        stream: StreamId([3; 32]),
        payee: AccountId([2; 32]),
        relay_key,
        relay_fp: "06".repeat(32),
        terms_version: 1,
        rate: 1_000_000,
        tier: 2,
        cadence_ms: 1000,
        grace_ms: 3000,
        pause_max_s: 60,
        min_prepay: Balance::of(2_000_000),
    }
}

fn payloads() -> Vec<Payload> {
    let stream = StreamId([3; 32]);
    let channel = ChannelId([1; 32]);
    let account = AccountId([9; 32]);
    let amount = Balance::of(5_000_000_000);
    let price = Price {
        rate_per_second: 1_000_000,
        tier_bps: [2_500, 5_000, 10_000],
        ticket_price: Balance::of(100_000_000),
        ticket_ms: 3_600_000,
    };
    let shares = SplitShares { creator_bps: 7_000, origin_bps: 1_000 };
    let reserve = ReserveRequest { payee: account, amount, until_height: 500 };
    let relay = RelayFacts {
        relay_key: account,
        endpoint: "https://relay.example".to_owned(),
        region: "CHu0q".to_owned(),
        wholesale_per_gb: Balance::of(7),
        min_share_bps: 500,
    };
    let ext = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), Vec::new())]);
    let title = "Ünder the sea".to_owned();
    let codecs = vec!["VP8".to_owned(), "opus".to_owned()];
    let entry = voucher().sign(&key(7), CHAIN).encode();
    vec![
        Payload::Transfer { to: account, amount },
        Payload::RegisterStream {
            title: title.clone(),
            policy: Policy::Paid,
            price: price.clone(),
            split: shares,
            origin_relay: Some(account),
            issuers: vec![account],
            codecs: codecs.clone(),
            ext: ext.clone(),
        },
        Payload::UpdateStream {
            stream,
            title: Some(title),
            policy: Some(Policy::AllowList),
            origin_relay: Some(None),
            codecs: None,
            ext: Some(ext),
        },
        Payload::EndStream { stream },
        Payload::SetPrice { stream, price, from_height: 0 },
        Payload::SetSplit { stream, split: shares, from_height: 77 },
        Payload::SetIssuers { stream, issuers: vec![account, account] },
        Payload::RegisterRelay { relay: relay.clone(), bond: amount },
        Payload::UpdateRelay { relay },
        Payload::OpenChannel {
            deposit: amount,
            voucher_key: account,
            expires_height: 100_000,
            reserves: vec![reserve],
        },
        Payload::TopUp { channel, amount, reserves: Vec::new() },
        Payload::Reserve { channel, reserve },
        Payload::Redeem { entries: vec![entry], watch_root: [4; 32], qos_root: [0; 32] },
        Payload::RequestClose { channel },
        Payload::Finalize { channel },
        Payload::BuyAccess { stream, terms_version: 1, max_price: amount },
        Payload::GrantAccess {
            stream,
            viewer: account,
            valid_until: 1_800_000_000_000,
            payment_status: 1,
            max_layer: 255,
        },
        Payload::RevokeAccess { stream, viewer: account },
        Payload::BumpRevocation { stream },
    ]
}

/// Relays' bonds, validators, their stake and their votes.
fn payloads_of_stake() -> Vec<Payload> {
    let (validator, other) = (AccountId([9; 32]), AccountId([10; 32]));
    let amount = Balance::of(5_000_000_000);
    let evidence =
        Evidence::DearTerms { terms: terms().to_json(), bind: vec![1, 2, 3], ack: vec![0xff; 64] };
    let upgrade = Upgrade {
        name: "v2".to_owned(),
        height: 1_000_000,
        info: "https://chain.example/v2".to_owned(),
    };
    vec![
        Payload::UnbondRelay,
        Payload::CreateValidator {
            consensus_key: other,
            possession: [7; 64],
            moniker: "Löwe".to_owned(),
            website: "https://validator.example".to_owned(),
            commission: Commission { bps: 500, max_bps: 2_000, step_bps: 100 },
            self_delegation: amount,
        },
        Payload::EditValidator {
            moniker: Some("Tiger".to_owned()),
            website: None,
            commission_bps: Some(600),
        },
        Payload::Delegate { validator, amount },
        Payload::Undelegate { validator, amount },
        Payload::Redelegate { from: validator, to: other, amount },
        Payload::WithdrawRewards { validator },
        Payload::Unjail,
        Payload::SubmitEvidence { evidence },
        Payload::Propose {
            title: "More validators".to_owned(),
            text: "So that more can join.".to_owned(),
            params: Box::new(Params { validators_max: 150, ..Params::default() }),
        },
        Payload::Vote { proposal: 1 << 60, approve: true },
        Payload::ScheduleUpgrade { upgrade },
    ]
}

fn transaction(payload: Payload) -> Value {
    let with_fee_payer = matches!(payload, Payload::Transfer { .. });
    let body = TransactionBody {
        signer: AccountId::from(&key(7)),
        fee_payer: with_fee_payer.then(|| AccountId::from(&key(8))),
        nonce: 3,
        valid_until_height: 1000,
        fee: Balance::of(20_000),
        payload,
    };
    let signed = match with_fee_payer {
        true => body.clone().sign_with_fee_payer(&key(7), &key(8), CHAIN),
        false => body.clone().sign(&key(7), CHAIN),
    };
    let bytes = signed.encode();
    assert_eq!(Transaction::decode(&bytes).as_ref(), Ok(&signed));
    assert_eq!(signed.verify(CHAIN), Ok(()));
    json!({
        "body": serde_json::to_value(&body).expect("every body has a JSON form"),
        "bytes": hex(&bytes),
        "hash": hex(&transaction_hash(&bytes)),
    })
}

fn frames() -> Vec<Value> {
    let receipt = Receipt {
        channel: ChannelId([1; 32]),
        relay_key: AccountId::from(&key(8)),
        lane: 7,
        nonce: 8,
        cumulative: Balance::of(9),
        sent_bytes: 10,
        state: LaneState::Late,
    };
    let report = QualityReport {
        stream: [3; 32],
        channel: [1; 32],
        relay_key: [8; 32],
        lane: 1,
        seq: 2,
        from_ms: 3,
        to_ms: 4,
        packets: 5,
        lost: 6,
        jitter_us: 7,
        rtt_us: 8,
        freezes: 9,
        freeze_ms: 10,
        frames: 11,
        kbps: 12,
        layer_switches: 13,
        first_frame_ms: 14,
        pauses: 15,
        pause_ms: 16,
    };
    let signed: SignedVoucher = voucher().sign(&key(7), CHAIN);
    let ack = PayAck {
        lane: 7,
        cumulative: Balance::of(42_000_000),
        sent_bytes: 1_000_000,
        served_ms: 41_500,
        state: LaneState::Active,
    };
    let (due, paid) = (Balance::of(5), Balance::of(4));
    let bound = bind(TokenId::ZERO, ChannelId([1; 32]));
    let named = [
        ("terms", Frame::Terms(terms().to_json())),
        ("bind", Frame::Bind(Box::new(bound.sign(&key(7), None, CHAIN)))),
        ("bind_ack", Frame::BindAck(bound.acknowledge(&key(8), CHAIN))),
        ("voucher", Frame::Voucher(Box::new(signed))),
        ("pay_ack", Frame::PayAck(ack)),
        ("pay_req", Frame::PayReq(PayReq { lane: 7, due, paid, deadline_ms: 3000 })),
        ("pay_sync", Frame::PaySync(Box::new(signed))),
        ("receipt", Frame::Receipt(Box::new(receipt), receipt.sign(&key(8), CHAIN))),
        ("quality_report", Frame::QualityReport(Box::new(report), report.sign(&key(7), CHAIN))),
        ("gate_notice", Frame::GateNotice { open: false, reason: GateReason::Overdue }),
        ("error", Frame::Error { code: 4402, message: "Payment required".to_owned() }),
    ];
    let to_json =
        |(name, frame): (&str, Frame)| json!({"name": name, "bytes": hex(&frame.encode())});
    named.into_iter().map(to_json).collect()
}

fn lanes() -> Value {
    let number = |tier| lane::lane_number(&AccountId::from(&key(8)), &StreamId([3; 32]), 1, tier);
    let totals = [
        (1_000_000u64, 0u64, 0u64, 1000u32, 1u32),
        (1_000_000, 60_000, 10_000, 1000, 1),
        (1_000_000, 10_000, 60_000, 1000, 3),
        (3, 334, 5_000, 250, 1),
        (u64::MAX, u64::MAX, u64::MAX, 10_000, 4),
    ];
    let total = |&(rate, served_ms, media_ms, cadence_ms, sessions): &(u64, u64, u64, u32, u32)| {
        let payable = lane::payable_ms(served_ms, media_ms);
        json!({
            "rate": rate.to_string(),
            "served_ms": served_ms.to_string(),
            "media_ms": media_ms.to_string(),
            "cadence_ms": cadence_ms,
            "sessions": sessions,
            "payable_ms": payable.to_string(),
            "signed_total": lane::signed_total(rate, payable, cadence_ms, sessions),
            "min_prepay": lane::min_prepay(rate, cadence_ms, Balance::of(1000)),
        })
    };
    json!({
        "relay_key": AccountId::from(&key(8)),
        "stream": StreamId([3; 32]),
        "terms_version": 1,
        "numbers_by_tier": [number(0), number(1), number(2)],
        "fee_per_voucher": "1000",
        "totals": totals.iter().map(total).collect::<Vec<_>>(),
    })
}

fn splits() -> Vec<Value> {
    let rows = [(1_000_099u128, 7_000, 1_000), (99, 5_000, 5_000), (1 << 95, 10_000, 0), (7, 0, 0)];
    rows.into_iter()
        .map(|(units, creator_bps, origin_bps)| {
            let amount = Balance::new(units).expect("below 2^96");
            let parts = split::shares(amount, creator_bps, origin_bps);
            json!({
                "amount": amount,
                "creator_bps": creator_bps,
                "origin_bps": origin_bps,
                "fee": parts.fee,
                "burned": split::burned(parts.fee),
                "creator": parts.creator,
                "origin": parts.origin,
                "payee": parts.payee,
            })
        })
        .collect()
}

fn keys() -> Vec<Value> {
    let (account, stream, channel) = (AccountId([9; 32]), StreamId([3; 32]), ChannelId([1; 32]));
    let lane = LaneKey { channel, payee: account, stream, lane: 7 };
    let named = [
        ("account", StateKey::Account(account)),
        ("stream", StateKey::Stream(stream)),
        ("access", StateKey::Access(stream, account)),
        ("channel", StateKey::Channel(channel)),
        ("lane", StateKey::Lane(lane)),
        ("relay", StateKey::Relay(account)),
        ("params", StateKey::Params),
        ("supply", StateKey::Supply),
        ("fee_pool", StateKey::FeePool),
    ];
    named.iter().map(|(name, key)| json!({"name": name, "bytes": hex(&key.to_bytes())})).collect()
}

/// R42
#[test]
fn the_vectors_for_both_languages_are_current() {
    let signed = voucher().sign(&key(7), CHAIN);
    // The vector of the protocol, made with another implementation.
    assert_eq!(
        hex(&signed.signature),
        "6421b8008f8e06a89f74dc1455a1b0eba739fb190356f8c0d0c120c6b86d48a9\
         4c61e660a2af99335e1999e35a590bea67fe499a60426bade917f2c8c4c9870c"
    );
    let with_both = bind(TokenId([0x11; 16]), ChannelId([1; 32]));
    let account = chain_types::Account { balance: Balance::of(7), nonce: 3 };
    let vectors = json!({
        "about": "Seeds are 32 times one byte. Transactions: borsh body || signature(s). Messages: big-endian.",
        "chain_id": CHAIN,
        "seeds": {"payer": hex(&[7; 32]), "relay": hex(&[8; 32])},
        "public": {"payer": AccountId::from(&key(7)), "relay": AccountId::from(&key(8))},
        "ids": {
            "stream_of_payer_nonce_3": StreamId::of(&AccountId::from(&key(7)), 3),
            "channel_of_payer_nonce_3": ChannelId::of(&AccountId::from(&key(7)), 3),
        },
        "voucher": {
            "signed": hex(&signed.encode()),
            "preimage_sha256": hex(&Sha256::digest(voucher().preimage(CHAIN).as_slice())),
        },
        "terms": {"json": terms().to_json(), "hash": hex(&terms().hash())},
        "bind": {
            "with_channel": hex(&bind(TokenId::ZERO, ChannelId([1; 32])).sign(&key(7), None, CHAIN).encode()),
            "with_token_and_channel": hex(&with_both.sign(&key(7), Some(&key(9)), CHAIN).encode()),
            "ack_of_with_channel": hex(&bind(TokenId::ZERO, ChannelId([1; 32])).acknowledge(&key(8), CHAIN)),
        },
        "frames": frames(),
        "transactions": payloads().into_iter().chain(payloads_of_stake()).map(transaction).collect::<Vec<_>>(),
        "lanes": lanes(),
        "splits": splits(),
        "keys": keys(),
        "records": {"account": {"json": account, "borsh": hex(&encoded(&account))}},
        "fees": {
            "params": Params::default(),
            "redeem_of_one_in_600_bytes": Params::default().fee_min(&payloads()[12], 600),
            "transfer_in_200_bytes": Params::default().fee_min(&payloads()[0], 200),
        },
    });
    let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    expect_file!["../vectors/money.json"].assert_eq(&text);
}

fn encoded(value: &impl BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("memory takes every byte")
}
