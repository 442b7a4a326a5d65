//! What the machine must bring along: for nodes root, Go and a few programs of the distribution; for the pages a
//! browser with its driver.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// Something that is needed, the Debian package that holds it, and how to see whether it is there.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const NODES: &[Need] = &[
    Need { package: "iproute2", present: || on_path("ip") },
    Need { package: "nftables", present: || on_path("nft") },
    Need { package: "util-linux", present: || on_path("nsenter") },
    Need { package: "mount", present: || on_path("umount") },
    Need { package: "busybox-static", present: static_busybox },
    Need { package: "gcc", present: || on_path("gcc") },
    Need { package: "libc6-dev", present: || Path::new("/usr/include/stdio.h").exists() },
    Need { package: "pkg-config", present: || on_path("pkg-config") },
    Need { package: "libseccomp-dev", present: seccomp_headers },
];

const BROWSER: &[Need] = &[
    Need { package: "chromium", present: || on_path("chromium") },
    Need { package: "chromium-driver", present: || on_path("chromedriver") },
    // It tells the browser which root to believe.
    Need { package: "libnss3-tools", present: || on_path("certutil") },
];

const PYTHON: &[Need] = &[
    Need { package: "python3", present: || on_path("python3") },
    Need { package: "python3-pip", present: has_pip },
];

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Why no nodes can run here, or `None` when they can; packages that apt-get can install do not count.
pub fn missing_for_nodes() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("nodes need Linux: only the control plane runs on this system".to_owned());
    }
    if !is_root() {
        return Some(
            "nodes need root (network namespaces, mounts, cgroups): run the same command with `sudo`".to_owned(),
        );
    }
    if !may_make_namespaces() {
        return Some(
            "nodes need network namespaces and mounts, which this machine refuses even to root (a container \
             without privileges?): run it on the host, or in a privileged container"
                .to_owned(),
        );
    }
    if rustix::fs::access("/sys/fs/cgroup", rustix::fs::Access::WRITE_OK).is_err() {
        return Some("nodes need cgroups, and `/sys/fs/cgroup` cannot be written here".to_owned());
    }
    let missing = missing_of(NODES);
    if !missing.is_empty() && !on_path("apt-get") {
        return Some(format!(
            "nodes need programs that are not installed; with Debian's names of their packages: {}",
            missing.join(" ")
        ));
    }
    None
}

/// Why the pages cannot be tried in a browser here, or `None` when they can.
pub fn missing_for_browser() -> Option<String> {
    let missing = missing_of(BROWSER);
    (!missing.is_empty()).then(|| {
        format!(
            "the pages are tried in Chromium, and programs for it are not installed; with Debian's names of their \
             packages: {}",
            missing.join(" ")
        )
    })
}

/// Installs the browser that tests of the pages need, for root with apt-get; elsewhere says what is missing.
pub fn ensure_browser(progress: Progress) -> Result<()> {
    if is_root() && on_path("apt-get") {
        return install(BROWSER, progress);
    }
    if let Some(missing) = missing_for_browser() {
        progress.say(&missing);
    }
    Ok(())
}

/// Installs Python with pip, for root with apt-get; elsewhere fails and says what is missing.
pub(crate) fn require_python(progress: Progress) -> Result<()> {
    if is_root() && on_path("apt-get") {
        return install(PYTHON, progress);
    }
    let missing = missing_of(PYTHON);
    if !missing.is_empty() {
        bail!("not installed, with Debian's names of the packages: {}", missing.join(" "));
    }
    Ok(())
}

/// Why the programs of Kubernetes cannot be built here, or `None` when they can.
pub(crate) fn missing_go() -> Option<&'static str> {
    (!on_path("go")).then_some(
        "building the Kubernetes programs needs Go 1.26 or newer, and `go` is not on PATH: install it from \
         https://go.dev/dl",
    )
}

/// Says what is missing when the programs of Kubernetes cannot be built here, and what goes without them.
pub(crate) fn require_go() -> Result<()> {
    match missing_go() {
        None => Ok(()),
        Some(missing) => bail!(
            "{missing}, or use a cluster and a `kubectl` of your own: `cargo xtask up --kubeconfig FILE`"
        ),
    }
}

/// Installs the packages that nodes need and this machine lacks; for root with apt-get.
pub(crate) fn install_missing(progress: Progress) -> Result<()> {
    install(NODES, progress)
}

fn install(needs: &[Need], progress: Progress) -> Result<()> {
    let missing = missing_of(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    apt_get(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)?;
    progress.done(&format!("installed {}", missing.join(" ")), start);
    let still = missing_of(needs);
    if !still.is_empty() {
        bail!("installed, but still not usable: {}", still.join(" "));
    }
    Ok(())
}

fn may_make_namespaces() -> bool {
    succeeds(Command::new("unshare").args(["--net", "--mount", "true"]))
}

fn missing_of(needs: &[Need]) -> Vec<&'static str> {
    needs.iter().filter(|need| !(need.present)()).map(|need| need.package).collect()
}

fn apt_get(args: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot run `apt-get`")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("`apt-get {}` failed: {error}", args.join(" "));
    }
    Ok(())
}

/// Whether a program is found on PATH.
pub(crate) fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// The first file of this name on PATH.
pub(crate) fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn static_busybox() -> bool {
    let interpreter =
        |bytes: Vec<u8>| bytes.windows(8).take(8192).any(|window| window == b"/ld-linu");
    std::fs::read("/bin/busybox").is_ok_and(|bytes| !interpreter(bytes))
}

fn has_pip() -> bool {
    succeeds(Command::new("python3").args(["-m", "pip", "--version"]))
}

fn seccomp_headers() -> bool {
    succeeds(Command::new("pkg-config").args(["--exists", "libseccomp"]))
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
