//! `cargo xtask image`: an archive that is an image, and pods that run from it.

use std::{fs, path::Path, process::Command};

use nullius_testkit::{Profile, shared};

use crate::newcomer::built;

#[test]
fn the_image_holds_the_binary_and_pods_run_from_it() {
    let Some(cluster) = shared(Profile::Standard) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    let mut image = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let state = std::env::var_os("NULLIUS_TEST_STATE").unwrap();
    image.args(["image", "--file"]).arg(&file).arg("--state").arg(&state);
    let output = built(&mut image).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let brought = format!("to the nodes of {}", cluster.name());
    for part in ["wrote localhost/nullius:dev to", "a debug build", &brought] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("oci-layout") && listed.contains("index.json"), "{listed}");

    let namespace = cluster.namespace("image").unwrap();
    namespace
        .apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: nullius}\nspec:\n  restartPolicy: Never\n  \
             containers:\n  - {name: nullius, image: \"localhost/nullius:dev\", imagePullPolicy: Never, args: [--version]}\n",
        )
        .unwrap();
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    namespace.kubectl(&["wait", "pod/nullius", done, "--timeout=60s"]).unwrap();
    let version = format!("nullius {}", env!("CARGO_PKG_VERSION"));
    assert!(namespace.kubectl(&["logs", "nullius"]).unwrap().starts_with(&version));

    // A place that cannot be written is named.
    let nowhere = Path::new("/nowhere/image.tar");
    let mut image = Command::new(env!("CARGO_BIN_EXE_xtask"));
    image.args(["image", "--file"]).arg(nowhere).arg("--state").arg(folder.path().join("none"));
    let output = built(&mut image).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("`/nowhere/image.tar`"), "{said}");
    assert!(fs::metadata(nowhere).is_err());
}
