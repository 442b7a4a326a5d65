#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

fn host(folder: &Path) -> CniHost {
    let (programs, networks) = (folder.join("bin"), folder.join("net.d"));
    fs::create_dir_all(&programs).unwrap();
    fs::create_dir_all(&networks).unwrap();
    let pass_namespaces = vec!["kube-system".to_owned()];
    CniHost { programs, networks, socket: "/run/n/cni.sock".into(), pass_namespaces }
}

fn types(path: &Path) -> Vec<String> {
    let list: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let plugins = list["plugins"].as_array().unwrap();
    plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","mtu":1400},{"type":"portmap"}]}"#;

#[test]
fn the_plugin_is_the_last_of_the_network_that_counts_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let program = folder.path().join("nullius");
    fs::write(&program, "the program").unwrap();
    let (first, second) =
        (host.networks.join("05-a.conflist"), host.networks.join("10-b.conflist"));
    fs::write(&first, NETWORK).unwrap();
    fs::set_permissions(&first, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&second, NETWORK).unwrap();

    assert!(install(&host, &program, Look::Briefly).unwrap());
    assert_eq!(types(&first), ["bridge", "portmap", PLUGIN]);
    assert_eq!(types(&second), ["bridge", "portmap"]);
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o640);
    let list: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    assert_eq!(list["plugins"][0]["mtu"], 1400);
    assert_eq!(list["plugins"][2]["socket"], "/run/n/cni.sock");
    assert_eq!(list["plugins"][2]["passNamespaces"], json!(["kube-system"]));
    let copy = host.programs.join(PLUGIN);
    assert_eq!(fs::read(&copy).unwrap(), b"the program");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!install(&host, &program, Look::Briefly).unwrap(), "nothing is to be changed");

    // Somebody puts another plugin behind it, writes the file anew, takes the program away.
    let mut list: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    list["plugins"].as_array_mut().unwrap().push(json!({ "type": "tuning" }));
    fs::write(&first, list.to_string()).unwrap();
    assert!(install(&host, &program, Look::Briefly).unwrap());
    assert_eq!(types(&first), ["bridge", "portmap", "tuning", PLUGIN]);
    fs::write(&first, NETWORK).unwrap();
    assert!(install(&host, &program, Look::Briefly).unwrap());
    assert_eq!(types(&first), ["bridge", "portmap", PLUGIN]);
    fs::remove_file(&copy).unwrap();
    assert!(install(&host, &program, Look::Briefly).unwrap());
    assert!(copy.exists());
    // A new version.
    fs::write(&program, "the next program").unwrap();
    assert!(install(&host, &program, Look::Briefly).unwrap());
    assert_eq!(fs::read(&copy).unwrap(), b"the next program");
    // Another one of the same size and time, as two images can have.
    let modified = fs::metadata(&program).unwrap().modified().unwrap();
    fs::write(&program, "the last program").unwrap();
    File::options().write(true).open(&program).unwrap().set_modified(modified).unwrap();
    assert!(install(&host, &program, Look::Closely).unwrap());
    assert_eq!(fs::read(&copy).unwrap(), b"the last program");
    assert!(!install(&host, &program, Look::Closely).unwrap());

    uninstall(&host.programs, &host.networks).unwrap();
    uninstall(&host.programs, &host.networks).unwrap();
    assert_eq!(types(&first), ["bridge", "portmap"]);
    assert!(!copy.exists());
    let rest: Vec<_> = fs::read_dir(&host.networks).unwrap().collect();
    assert_eq!(rest.len(), 2, "{rest:?}");
}

#[test]
fn what_cannot_be_chained_is_said_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let program = folder.path().join("nullius");
    fs::write(&program, "the program").unwrap();
    assert!(matches!(install(&host, &program, Look::Briefly), Err(InstallError::NoNetwork(_))));
    let single = host.networks.join("01-old.conf");
    fs::write(&single, r#"{"type":"bridge"}"#).unwrap();
    fs::write(host.networks.join("05-a.conflist"), NETWORK).unwrap();
    assert!(
        matches!(install(&host, &program, Look::Briefly), Err(InstallError::NoList(path)) if path == single)
    );
    fs::remove_file(&single).unwrap();
    let torn = host.networks.join("02-torn.conflist");
    fs::write(&torn, &NETWORK[..40]).unwrap();
    assert!(
        matches!(install(&host, &program, Look::Briefly), Err(InstallError::File { path, .. }) if path == torn)
    );
    assert_eq!(fs::read_to_string(&torn).unwrap(), NETWORK[..40]);
}
