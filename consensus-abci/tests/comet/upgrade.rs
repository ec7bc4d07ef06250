//! An upgrade over the socket: the engine hears why the application stops, and the next program
//! goes on with the same block.

use std::sync::{Arc, Weak};

use chain_types::{Params, Payload, staking::Upgrade};
use consensus_abci::{
    app::{App, KnownUpgrade, Options},
    server::{Limits, Server},
};
use tendermint_proto::v0_38::abci::{
    RequestCommit, RequestInfo, request::Value as Ask, response::Value as Say,
};

use crate::{
    client::{Client, socket_in, wait_until},
    staked::FIRSTS,
    world::{Dir, World},
};

const KNOWS_TWO: &[KnownUpgrade] = &[KnownUpgrade { name: "two", migrate: |_| Ok(()) }];

/// The application behind a socket; whether it is still there.
fn serve(app: App, dir: &Dir) -> (Server, Weak<App>) {
    let app = Arc::new(app);
    let there = Arc::downgrade(&app);
    (Server::start(app, &socket_in(dir), Limits::default()).unwrap(), there)
}

/// R4
#[test]
fn an_engine_is_told_which_program_to_install_and_the_new_one_takes_the_block() {
    let params = Params { notice_blocks: 1, ..Params::for_tests() };
    let mut world = World::staked_with(params, &FIRSTS);
    let (name, height) = ("two".to_owned(), world.height + 6);
    let info = "https://example.org/two".to_owned();
    let upgrade = Upgrade { name, height, info };
    world.done("v1", Payload::ScheduleUpgrade { upgrade });
    for operator in ["v1", "v2", "v3"] {
        world.done(operator, Payload::Vote { proposal: 1, approve: true });
    }
    world.skip(height - 1 - world.height);
    let block = world.request(Vec::new());
    let World { app, dir: state, .. } = world;

    let socket = Dir::new();
    let (server, there) = serve(app, &socket);
    let mut engine = Client::connect(server.local_addr());
    engine.send(Ask::FinalizeBlock(block.clone()));
    let said = format!("block {height} needs the upgrade two");
    engine.expect_exception(&said);
    let failure = server.failure().expect("the chain stands still");
    for part in [&said, "install the version that has it (https://example.org/two)"] {
        assert!(failure.contains(part), "{failure}");
    }
    let mut again = Client::connect(server.local_addr());
    again.send(Ask::Info(RequestInfo::default()));
    again.expect_exception(&said);
    drop((engine, again, server));
    wait_until("the end of the application", || there.upgrade().is_none());

    let app = App::open_knowing(state.path(), Options::default(), KNOWS_TWO).unwrap();
    let (server, _) = serve(app, &socket);
    let mut engine = Client::connect(server.local_addr());
    let Say::Info(info) = engine.call(Ask::Info(RequestInfo::default())) else { panic!() };
    assert_eq!(info.last_block_height, block.height - 1, "nothing of the block was executed");
    let Say::FinalizeBlock(done) = engine.call(Ask::FinalizeBlock(block)) else { panic!() };
    assert_eq!(done.events[0].r#type, "upgraded");
    assert!(matches!(engine.call(Ask::Commit(RequestCommit {})), Say::Commit(_)));
}
