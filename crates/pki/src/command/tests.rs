#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use nullius_model::{CommandId, KeySet, Order, SessionId};

use super::*;
use crate::{KeySetSigner, Signer};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

struct World {
    offline: KeySetSigner,
    signer: Signer,
    trust: Arc<Verifier>,
    verifier: CommandVerifier,
}

fn world() -> World {
    let offline = KeySetSigner::generate().unwrap();
    let signer = Signer::generate().unwrap();
    let trust = Arc::new(Verifier::new(offline.public(), 0).unwrap());
    let verifier = CommandVerifier::new(Arc::clone(&trust), "dev".parse().unwrap());
    let world = World { offline, signer, trust, verifier };
    world.install(1, &[&world.signer]);
    world
}

impl World {
    fn install(&self, revision: u64, signers: &[&Signer]) {
        let keys = signers.iter().map(|signer| signer.entry(at(0), at(NOW * 2))).collect();
        self.trust.install(&self.offline.sign(&KeySet { revision, keys })).unwrap();
    }

    fn verify(&self, signer: &Signer, command: &Command, now: i64) -> Result<u64, CommandError> {
        let verified = self.verifier.verify(&signer.sign_command(command), at(now));
        verified.map(|command| command.revision)
    }
}

fn command(revision: u64) -> Command {
    Command {
        cluster: "dev".parse().unwrap(),
        id: CommandId::from_bits(revision.into()),
        revision,
        issued_at: at(NOW),
        order: Order::Flush { session: SessionId::from_bits(1), objects: BTreeMap::new() },
    }
}

#[test]
fn commands_are_taken_in_order_and_once() {
    let world = world();
    let verify = |revision| world.verify(&world.signer, &command(revision), NOW);
    assert_eq!(verify(5), Ok(5));
    assert_eq!(verify(5), Err(CommandError::Replayed { known: 5, found: 5 }));
    assert_eq!(verify(4), Err(CommandError::Replayed { known: 5, found: 4 }));
    assert_eq!(verify(9), Ok(9));
}

#[test]
fn a_command_is_for_one_cluster_and_fresh() {
    let world = world();
    let staging: ClusterName = "staging".parse().unwrap();
    let other = Command { cluster: staging.clone(), ..command(1) };
    let refused = world.verify(&world.signer, &other, NOW);
    assert_eq!(refused, Err(CommandError::Cluster(staging)));
    let verify = |now| world.verify(&world.signer, &command(1), now);
    assert_eq!(verify(NOW + 66), Err(CommandError::Expired(66)));
    assert_eq!(verify(NOW - 6), Err(CommandError::Early(6)));
    assert_eq!(verify(NOW + 65), Ok(1));
}

#[test]
fn a_second_replica_goes_on_where_the_first_was() {
    let world = world();
    let second = Signer::generate().unwrap();
    world.install(2, &[&world.signer, &second]);
    assert_eq!(world.verify(&world.signer, &command(7), NOW), Ok(7));
    let late = world.verify(&second, &command(6), NOW);
    assert_eq!(late, Err(CommandError::Replayed { known: 7, found: 6 }));
    assert_eq!(world.verify(&second, &command(8), NOW), Ok(8));
}

#[test]
fn a_hub_set_up_anew_begins_anew_and_its_old_commands_are_dead() {
    let world = world();
    assert_eq!(world.verify(&world.signer, &command(100), NOW), Ok(100));
    let anew = Signer::generate().unwrap();
    world.install(2, &[&anew]);
    assert_eq!(world.verify(&anew, &command(1), NOW), Ok(1));
    let old = world.verify(&world.signer, &command(101), NOW);
    assert!(matches!(old, Err(CommandError::Token(VerifyError::UnknownKey(_)))));
}

#[test]
fn an_assertion_is_no_command() {
    let world = world();
    let error = world.verifier.verify("a.b.c", at(NOW)).unwrap_err();
    assert_eq!(error, CommandError::Token(VerifyError::Malformed));
    assert_eq!(error.to_string(), "the command is refused");
}
