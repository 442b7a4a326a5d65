//! Sign-ins that must fail, at the terminal of the real binary.

use nullius_testkit::wait_until;

use crate::{
    faults_lab::{Lab, PATIENCE},
    trail::text,
    world::ended_with,
};

#[test]
fn a_wrong_password_signs_nobody_in_and_tells_nothing_more() {
    let lab = Lab::new("");
    let ada = lab.environment.new_person("ada", &[]).unwrap();
    let code = ada.code().unwrap();
    let wrong_code = if code == "000000" { "000001" } else { "000000" };
    let password = lab.login("ada", "ada", "not-the-password-of-ada", &code);
    let unknown = lab.login("ada", "nobody", &ada.password, &code);
    let other_code = lab.login("ada", "ada", &ada.password, wrong_code);
    for refused in [&password, &unknown, &other_code] {
        ended_with(refused, 1);
        assert_eq!(refused.stderr, password.stderr, "what was wrong is not told");
        assert!(refused.stderr.contains("user, password or code is wrong"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("not-the-password"), "{}", refused.stderr);
    }
    let whoami = lab.environment.nullius("ada", &["whoami"]).unwrap();
    ended_with(&whoami, 64);
    assert!(whoami.stderr.contains("nullius login"), "{}", whoami.stderr);

    // None of it used up the code.
    ended_with(&lab.login("ada", "ada", &ada.password, &code), 0);
    let denied = lab.events(&["--kind", "sign-in", "--outcome", "denied"]);
    let whys: Vec<_> = denied.iter().map(|event| text(event, "/facts/reason")).collect();
    assert_eq!(whys, ["wrong-code", "unknown-user", "wrong-password"], "{denied:#?}");
}

#[test]
fn a_code_counts_once() {
    let lab = Lab::new("");
    let ada = lab.environment.new_person("ada", &[]).unwrap();
    let code = ada.code().unwrap();
    ended_with(&lab.login("ada", "ada", &ada.password, &code), 0);
    let reused = lab.login("elsewhere", "ada", &ada.password, &code);
    ended_with(&reused, 1);
    assert!(reused.stderr.contains("code"), "{}", reused.stderr);
    // Nor does one from before the one that was used.
    let step_up = |code: &str| {
        let args = ["login", "--step-up", "--password-stdin"];
        lab.environment.nullius_with_input("ada", &args, &format!("{code}\n")).unwrap()
    };
    let again = step_up(&code);
    ended_with(&again, 1);
    assert!(again.stderr.contains("was used before"), "{}", again.stderr);
    wait_until(PATIENCE, "the next code to count", || {
        (step_up(&ada.next_code().unwrap()).code == 0).then_some(())
    })
    .unwrap();
    let denied = lab.events(&["--user", "ada", "--kind", "sign-in", "--outcome", "denied"]);
    assert!(!denied.is_empty());
}
