//! `agent proxy` and `agent control` inside a cluster.

use std::sync::Arc;

use nullius_model::InfraId;
use nullius_tls::{PeerRule, Protocol, agent_client_config, agent_server_config};
use rustls::{ClientConfig, ServerConfig};

use crate::world::{World, control, dial_server, hub, proxy};

fn server(world: &World, id: &InfraId) -> Arc<ServerConfig> {
    let rule = PeerRule::ProxyOf("a".parse().unwrap());
    agent_server_config(&world.roots, world.certify(id), rule, &[Protocol::Handover]).unwrap()
}

fn client(world: &World, id: &InfraId) -> Arc<ClientConfig> {
    let rule = PeerRule::ControlOf("a".parse().unwrap());
    agent_client_config(&world.roots, world.certify(id), rule, Protocol::Handover).unwrap()
}

#[tokio::test]
async fn the_proxy_of_a_cluster_reaches_its_control() {
    let world = World::new();
    let (accepted, dialled) =
        dial_server(server(&world, &control("a")), client(&world, &proxy("a"))).await;
    assert!(accepted.is_ok() && dialled.is_ok(), "{accepted:?} {dialled:?}");
}

#[tokio::test]
async fn nobody_else_gets_session_tokens_from_control() {
    let world = World::new();
    for id in [proxy("b"), control("a"), control("b"), hub()] {
        let (accepted, dialled) =
            dial_server(server(&world, &control("a")), client(&world, &id)).await;
        assert!(accepted.is_err() && dialled.is_err(), "{id}");
    }
    let stranger = World::new();
    let theirs = agent_client_config(
        &world.roots,
        stranger.certify(&proxy("a")),
        PeerRule::ControlOf("a".parse().unwrap()),
        Protocol::Handover,
    );
    let (accepted, _) = dial_server(server(&world, &control("a")), theirs.unwrap()).await;
    assert!(accepted.is_err(), "of another root");
}

#[tokio::test]
async fn nobody_else_passes_for_control() {
    let world = World::new();
    for id in [control("b"), proxy("a"), proxy("b"), hub()] {
        let (_, dialled) = dial_server(server(&world, &id), client(&world, &proxy("a"))).await;
        assert!(dialled.is_err(), "{id}");
    }
}
