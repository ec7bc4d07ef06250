//! ABCI queries: records as JSON, raw values with proofs, and sentences for what is not there.

use chain_types::{
    Account, ChannelId, Payload, Policy, ResultCode, StateKey, StreamMetadata, follow,
};
use consensus_abci::{app::PROOF_TYPE, application::Application};
use ics23::{CommitmentProof, HostFunctionsManager};
use prost13::Message;
use serde_json::Value;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseFinalizeBlock, ResponseQuery};

use crate::world::*;

impl World {
    fn ask(&self, path: &str, data: &[u8], height: i64, prove: bool) -> ResponseQuery {
        let data = bytes::Bytes::copy_from_slice(data);
        let request = RequestQuery { data, path: path.to_owned(), height, prove };
        self.app.query(request).expect("a sound chain")
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let response = self.ask(path, b"", 0, false);
        assert_eq!(response.code, 0, "{path}: {}", response.log);
        assert_eq!(response.height, self.height as i64);
        serde_json::from_slice(&response.value).expect("a sound chain")
    }

    #[track_caller]
    fn no(&self, path: &str, height: i64, code: ResultCode, part: &str) {
        let response = self.ask(path, b"", height, false);
        assert_eq!(ResultCode::from_code(response.code), Some(code), "{path}: {}", response.log);
        assert!(response.log.contains(part), "{path}: {}", response.log);
    }
}

#[test]
fn every_path_gives_its_record() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let channel = world.open(1_000_000_000, &[("other", 500, 900)]);
    world.done("relay", redeem(vec![signed(voucher(channel, stream, 1_000))]));
    let payload = Payload::GrantAccess {
        stream,
        viewer: id("viewer"),
        valid_until: u64::MAX / 4096,
        payment_status: 1,
        max_layer: 255,
    };
    world.done("creator", payload);
    let relay = chain_types::RelayFacts {
        relay_key: id("relay key"),
        endpoint: "https://relay.example".into(),
        region: "DE".into(),
        wholesale_per_gb: sut(5),
        min_share_bps: 0,
    };
    world.done("relay", Payload::RegisterRelay { relay, bond: sut(7) });

    let (viewer, relay) = (id("viewer"), id("relay"));
    let account: Account =
        serde_json::from_value(world.json(&format!("/account/{viewer}"))).unwrap();
    assert_eq!(account, world.account("viewer"));
    let value = world.json(&format!("/stream/{stream}"));
    let record: StreamMetadata = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(record, world.stream(&stream));
    assert_eq!(world.json("/streams"), Value::Array(vec![value.clone()]));
    let mine = world.json(&format!("/streams/by-creator/{}", id("creator")));
    assert_eq!(mine, Value::Array(vec![value]));
    let value = world.json(&format!("/channel/{channel}"));
    assert_eq!(value["id"], channel.to_string());
    assert_eq!(value["deposits"], "1000000000");
    assert_eq!(value["redeemed"], "1000");
    let list = Value::Array(vec![value]);
    assert_eq!(world.json(&format!("/channels/by-payer/{viewer}")), list);
    assert_eq!(world.json(&format!("/channels/by-payee/{relay}")), list, "by its lane");
    assert_eq!(world.json(&format!("/channels/by-payee/{}", id("other"))), list, "by its reserve");
    assert_eq!(world.json(&format!("/channels/by-payee/{viewer}")), Value::Array(vec![]));
    let lanes = world.json(&format!("/lanes/{channel}"));
    assert_eq!(
        (&lanes[0]["payee"], &lanes[0]["paid"]),
        (&relay.to_string().into(), &"1000".into())
    );
    assert_eq!(world.json(&format!("/access/{stream}/{viewer}"))["payment_status"], 1);
    assert_eq!(world.json(&format!("/relay/{relay}"))["bond"], "7");
    assert_eq!(world.json("/relays")[0]["account"], relay.to_string());
    assert_eq!(world.json("/params")["fee_base"], world.params().fee_base.to_string());
    let supply = world.json("/supply");
    let units = |name: &str| supply[name].as_str().unwrap().parse::<u128>().unwrap();
    assert_eq!(units("genesis"), 6 * u128::from(BEGIN));
    assert_eq!(units("current"), units("genesis") - units("burned"));
    assert!(units("burned") >= units("fee_pool") && units("fee_pool") > 0);
}

#[test]
fn what_is_not_there_or_not_a_path_says_so() {
    let world = World::new();
    world.no("/nonsense", 0, ResultCode::NotFound, "/account/{hex}");
    world.no("", 0, ResultCode::NotFound, "known are");
    world.no("/account", 0, ResultCode::NotFound, "known are");
    world.no("/account/zz", 0, ResultCode::Decode, "hex digits");
    world.no(&format!("/account/{}", id("stranger")), 0, ResultCode::NotFound, "no such record");
    world.no(&format!("/channel/{}", ChannelId([9; 32])), 0, ResultCode::NotFound, "no such");
    world.no("/params", -1, ResultCode::Decode, "negative");
    world.no("/params", 9, ResultCode::NotFound, "not kept");
}

#[test]
fn older_heights_are_answered_as_they_were() {
    let mut world = World::new();
    world.skip(1);
    let payload = Payload::Transfer { to: id("relay"), amount: sut(5) };
    world.done("viewer", payload);
    world.skip(1);
    let path = format!("/account/{}", id("relay"));
    let balance = |height| {
        let response = world.ask(&path, b"", height, false);
        assert_eq!(response.height, height);
        let account: Account = serde_json::from_slice(&response.value).unwrap();
        account.balance
    };
    assert_eq!((balance(1), balance(2)), (sut(BEGIN), sut(BEGIN + 5)));
}

#[test]
fn a_raw_value_is_proved_under_the_app_hash_of_its_height() {
    let mut world = World::new();
    let payload = Payload::Transfer { to: id("relay"), amount: sut(5) };
    world.done("viewer", payload.clone());
    let old = world.app.snapshot().head().unwrap().app_hash.to_vec();
    world.done("viewer", payload);
    let new = world.app.snapshot().head().unwrap().app_hash.to_vec();
    let key = StateKey::Account(id("relay")).to_bytes();
    let proof_of = |key: &[u8], height| {
        let response = world.ask("/store/app/key", key, height, true);
        assert_eq!((response.code, response.height), (0, height));
        assert_eq!(response.key, key);
        let op = response.proof_ops.unwrap().ops.remove(0);
        assert_eq!((op.r#type.as_str(), &op.key[..]), (PROOF_TYPE, key));
        (response.value, CommitmentProof::decode(&op.data[..]).unwrap())
    };
    let spec = jmt::ics23_spec();
    let is_member = |proof: &CommitmentProof, root: &Vec<u8>, value: &[u8]| {
        ics23::verify_membership::<HostFunctionsManager>(proof, &spec, root, &key, value)
    };
    let (value, proof) = proof_of(&key, 2);
    assert_eq!(borsh::from_slice::<Account>(&value).unwrap().balance, sut(BEGIN + 10));
    assert!(is_member(&proof, &new, &value));
    assert!(!is_member(&proof, &old, &value));
    let mut tampered = value.to_vec();
    tampered[0] ^= 1;
    assert!(!is_member(&proof, &new, &tampered));
    let (value, proof) = proof_of(&key, 1);
    assert!(is_member(&proof, &old, &value));

    let absent = StateKey::Account(id("stranger")).to_bytes();
    let (value, proof) = proof_of(&absent, 2);
    assert!(value.is_empty());
    let is_absent =
        |key: &[u8]| ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec, &new, key);
    assert!(is_absent(&absent));
    assert!(!is_absent(&key));
    let plain = world.ask("/store/app/key", &key, 0, false);
    assert!(plain.proof_ops.is_none() && !plain.value.is_empty());
}

#[test]
fn who_follows_from_afar_learns_which_records_changed_and_proves_each() {
    let mut world = World::new();
    let stream = world.register(Policy::Free);
    let key = StateKey::Stream(stream).to_bytes();
    let changed = |response: &ResponseFinalizeBlock| -> Vec<Vec<u8>> {
        let event = response.events.iter().find(|event| event.r#type == follow::CHANGES_EVENT);
        let keys = event.iter().flat_map(|event| &event.attributes);
        keys.map(|attribute| chain_types::hex::bytes(&attribute.key).unwrap()).collect()
    };
    let ended = world.sign("creator", Payload::EndStream { stream });
    assert_eq!(changed(&world.block(vec![ended])), std::slice::from_ref(&key));
    // Accounts change with every fee; they are no records that a relay follows.
    let transfer = world.sign("viewer", Payload::Transfer { to: id("relay"), amount: sut(5) });
    assert_eq!(changed(&world.block(vec![transfer])), Vec::<Vec<u8>>::new());

    let list = |prefix: &[u8], after: Option<&Vec<u8>>, limit| {
        let prefix = prefix.to_vec();
        let request = follow::ListRequest { prefix, after: after.cloned(), limit };
        world.ask(follow::LIST_PATH, &borsh::to_vec(&request).unwrap(), 0, false)
    };
    let keys =
        |response: &ResponseQuery| -> Vec<Vec<u8>> { borsh::from_slice(&response.value).unwrap() };
    let streams = keys(&list(StateKey::STREAMS, None, 100));
    assert!(streams.contains(&key));
    assert_eq!(keys(&list(StateKey::STREAMS, streams.last(), 100)), Vec::<Vec<u8>>::new());
    let paged = keys(&list(StateKey::STREAMS, None, 1));
    assert_eq!(paged, streams[..1]);
    assert_eq!(keys(&list(StateKey::STREAMS, paged.last(), 100)), streams[1..]);
    assert_eq!(keys(&list(StateKey::PARAMS, None, 1)), [StateKey::Params.to_bytes()]);
    assert_ne!(list(StateKey::ACCOUNTS, None, 1).code, 0);
    assert_ne!(world.ask(follow::LIST_PATH, b"no borsh", 0, false).code, 0);

    let height = i64::try_from(world.app.snapshot().height()).unwrap();
    let root = world.app.snapshot().head().unwrap().app_hash.to_vec();
    let absent = StateKey::Stream(chain_types::StreamId([7; 32])).to_bytes();
    let asked = vec![key, absent];
    let response = world.ask(follow::VALUES_PATH, &borsh::to_vec(&asked).unwrap(), height, true);
    let values: Vec<Option<Vec<u8>>> = borsh::from_slice(&response.value).unwrap();
    let ops = response.proof_ops.unwrap().ops;
    let proofs: Vec<_> =
        ops.iter().map(|op| CommitmentProof::decode(&op.data[..]).unwrap()).collect();
    let spec = jmt::ics23_spec();
    let stored = values[0].as_ref().unwrap();
    assert!(ics23::verify_membership::<HostFunctionsManager>(
        &proofs[0], &spec, &root, &asked[0], stored
    ));
    assert_eq!(values[1], None);
    assert!(ics23::verify_non_membership::<HostFunctionsManager>(
        &proofs[1], &spec, &root, &asked[1]
    ));
    let many = vec![asked[0].clone(); follow::VALUES_MAX + 1];
    assert_ne!(world.ask(follow::VALUES_PATH, &borsh::to_vec(&many).unwrap(), 0, false).code, 0);
}

#[test]
fn a_long_list_comes_in_pages() {
    let mut world = World::new();
    for _ in 0..3 {
        world.register(Policy::Free);
    }
    let all = world.json("/streams");
    let first = all[0]["id"].as_str().unwrap();
    let after = first.parse::<chain_types::StreamId>().unwrap().0;
    let response = world.ask("/streams", &after, 0, false);
    let rest: Value = serde_json::from_slice(&response.value).unwrap();
    assert_eq!(rest.as_array().unwrap()[..], all.as_array().unwrap()[1..]);
    let old = world.ask("/streams", b"", 1, false);
    assert!(old.log.contains("newest height only"), "{}", old.log);
}
