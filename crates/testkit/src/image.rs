//! Container images made on this machine: an OCI layout archive of one layer, the same bytes for the same content.
//!
//! No container engine and no registry is needed: containerd's `ctr` imports the archive. Times are zero and entries
//! are sorted, so that an image's digest says what is in it and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

mod tar;

use tar::{Archive, Kind};

/// The user that images of our own programs run as.
const NONROOT: u32 = 65_532;

/// A container image to be written.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name with tag, such as `localhost/nullius:dev`.
    pub name: String,
    /// What runs by default.
    pub entrypoint: Vec<String>,
    /// Its files by absolute path; directories above them are made.
    pub files: BTreeMap<String, File>,
    /// The numeric user and group it runs as.
    pub user: u32,
    /// Environment variables, `NAME=value`.
    pub environment: Vec<String>,
}

/// A file of an image.
#[derive(Clone, Debug)]
pub struct File {
    /// What is in it.
    pub content: Content,
    /// Its permission bits.
    pub mode: u32,
}

/// Where a file's content comes from.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of this machine.
    Path(PathBuf),
    /// A symbolic link to this target.
    Link(String),
    /// An empty directory.
    Directory,
}

impl File {
    /// A file that is run.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self { content: Content::Path(path.into()), mode: 0o755 }
    }

    /// A file that is read.
    pub fn data(bytes: impl Into<Vec<u8>>) -> Self {
        Self { content: Content::Bytes(bytes.into()), mode: 0o644 }
    }

    /// A symbolic link.
    pub fn link(target: impl Into<String>) -> Self {
        Self { content: Content::Link(target.into()), mode: 0o777 }
    }

    /// A directory with these permission bits.
    pub fn directory(mode: u32) -> Self {
        Self { content: Content::Directory, mode }
    }
}

impl Image {
    /// An image without files that runs as a numeric user without rights.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|&part| part.to_owned()).collect(),
            files: BTreeMap::new(),
            user: NONROOT,
            environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin:/".to_owned()],
        }
    }

    /// The same with one file more.
    #[must_use]
    pub fn with(mut self, path: &str, file: File) -> Self {
        self.files.insert(path.to_owned(), file);
        self
    }

    /// Writes the image as an OCI layout archive.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let (repository, tag) = self
            .name
            .rsplit_once(':')
            .filter(|(repository, tag)| !repository.is_empty() && !tag.contains('/'))
            .with_context(|| format!("the image name `{}` has no tag", self.name))?;
        let mut layer = tempfile::tempfile()?;
        let (layer_digest, layer_size) = self.write_layer(&mut layer)?;

        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": format!("{0}:{0}", self.user),
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        }))?;
        let config_digest = hex::encode(Sha256::digest(&config));
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_digest}"), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"), "size": layer_size,
            }],
        }))?;
        let manifest_digest = hex::encode(Sha256::digest(&manifest));
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"), "size": manifest.len(),
                "annotations": {
                    "io.containerd.image.name": format!("{repository}:{tag}"),
                    "org.opencontainers.image.ref.name": tag,
                },
            }],
        }))?;

        let draft = archive.with_extension("part");
        let file = fs::File::create(&draft)
            .with_context(|| format!("cannot write `{}`", draft.display()))?;
        let mut out = Archive::new(std::io::BufWriter::new(file));
        out.bytes("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        out.bytes("index.json", 0o644, &index)?;
        for directory in ["blobs/", "blobs/sha256/"] {
            out.entry(directory, 0o755, Kind::Directory)?;
        }
        out.bytes(&format!("blobs/sha256/{config_digest}"), 0o644, &config)?;
        out.bytes(&format!("blobs/sha256/{manifest_digest}"), 0o644, &manifest)?;
        layer.seek(SeekFrom::Start(0))?;
        out.stream(&format!("blobs/sha256/{layer_digest}"), 0o644, layer_size, &mut layer)?;
        out.finish()?.flush()?;
        fs::rename(draft, archive)?;
        Ok(())
    }

    /// Writes the one layer and says its digest and size.
    fn write_layer(&self, out: &mut fs::File) -> Result<(String, u64)> {
        let mut archive = Archive::new(Measure::new(std::io::BufWriter::new(out)));
        let mut directories = BTreeSet::new();
        for path in self.files.keys() {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                bail!("`{path}` is no absolute path for a file of an image");
            }
            directories.extend(Path::new(path).ancestors().skip(1).map(Path::to_owned));
        }
        let mut entries: BTreeMap<String, &File> = BTreeMap::new();
        let plain = File::directory(0o755);
        for directory in directories.iter().filter_map(|path| path.to_str()) {
            entries.insert(directory.to_owned(), &plain);
        }
        entries.extend(self.files.iter().map(|(path, file)| (path.clone(), file)));
        entries.remove("/");
        for (path, file) in entries {
            let name = path.trim_start_matches('/');
            match &file.content {
                Content::Bytes(bytes) => archive.bytes(name, file.mode, bytes)?,
                Content::Link(target) => archive.entry(name, 0o777, Kind::Link(target))?,
                Content::Directory => {
                    archive.entry(&format!("{name}/"), file.mode, Kind::Directory)?;
                }
                Content::Path(source) => {
                    let opened = fs::File::open(source);
                    let mut opened =
                        opened.with_context(|| format!("cannot read `{}`", source.display()))?;
                    let size = opened.metadata()?.len();
                    archive.stream(name, file.mode, size, &mut opened)?;
                }
            }
        }
        archive.finish()?.digest()
    }
}

/// The image of the container that holds a pod's namespaces: it sleeps until it is told to end.
pub fn pause_image() -> Image {
    // `exec` so that the sleep is process 1, and a trap so that it ends at once when asked.
    let script = "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait $!; done";
    let mut image = Image::new("localhost/nullius-pause:1", &["/bin/busybox", "sh", "-c", script])
        .with("/bin/busybox", File::program("/bin/busybox"))
        .with("/bin/sleep", File::link("busybox"));
    image.environment = vec!["PATH=/bin".to_owned()];
    image
}

/// A small system for tests: a static busybox with all its programs. Runs as root, as most images do.
pub fn busybox_image() -> Result<Image> {
    let mut image = Image::new("localhost/nullius-busybox:1", &["/bin/sh"])
        .with("/bin/busybox", File::program("/bin/busybox"))
        .with(
            "/etc/passwd",
            File::data("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
        )
        .with("/etc/group", File::data("root:x:0:\nnobody:x:65534:\n"))
        .with("/root", File::directory(0o700))
        .with("/tmp", File::directory(0o1777));
    image.user = 0;
    let output = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .context("cannot run `/bin/busybox`: install the package busybox-static")?;
    for applet in String::from_utf8_lossy(&output.stdout).lines().filter(|name| *name != "busybox")
    {
        image = image.with(&format!("/bin/{applet}"), File::link("busybox"));
    }
    Ok(image)
}

/// Packs a program of this machine with the shared libraries and the loader that it needs.
///
/// The image runs as a numeric user without rights and holds CA certificates if this machine has them.
pub fn image_from_binary(program: &Path, name: &str) -> Result<Image> {
    let file_name = program
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("`{}` is no program", program.display()))?;
    let inside = format!("/usr/local/bin/{file_name}");
    let mut image = Image::new(name, &[&inside])
        .with(&inside, File::program(program))
        .with("/etc/passwd", File::data(format!("nonroot:x:{NONROOT}:{NONROOT}::/:/\n")))
        .with("/etc/group", File::data(format!("nonroot:x:{NONROOT}:\n")))
        .with("/etc/nsswitch.conf", File::data("hosts: files dns\n"))
        .with("/tmp", File::directory(0o1777));
    for library in shared_libraries(program)? {
        let path = library.display().to_string();
        let mode = fs::metadata(&library)?.permissions().mode() & 0o777;
        image = image.with(&path, File { content: Content::Path(library), mode });
    }
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.exists() {
        let file = File { content: Content::Path(authorities.to_owned()), mode: 0o644 };
        image = image.with("/etc/ssl/certs/ca-certificates.crt", file);
        image.environment.push("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned());
    }
    Ok(image)
}

/// The libraries that a program loads, the loader among them; none for a static one.
fn shared_libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.context("cannot run `ldd` to find the program's libraries")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("statically linked") || error.contains("not a dynamic executable") {
        return Ok(BTreeSet::new());
    }
    if !output.status.success() {
        bail!("`ldd {}` failed: {}", program.display(), error.trim());
    }
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("`{}` lacks a library: {}", program.display(), line.trim());
    }
    let mut libraries: BTreeSet<PathBuf> = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect();
    // Loaded by name at run time, so that ldd does not list them: name look-ups of the C library.
    for module in ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"] {
        let beside: Vec<_> = libraries
            .iter()
            .filter_map(|library| Some(library.parent()?.join(module)))
            .filter(|candidate| candidate.exists())
            .collect();
        libraries.extend(beside);
    }
    Ok(libraries)
}

/// This machine's architecture in the words of the OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A writer that measures and digests what goes through it.
struct Measure<W> {
    inner: W,
    digest: Sha256,
    size: u64,
}

impl<W: Write> Measure<W> {
    fn new(inner: W) -> Self {
        Self { inner, digest: Sha256::new(), size: 0 }
    }

    fn digest(mut self) -> Result<(String, u64)> {
        self.inner.flush()?;
        Ok((hex::encode(self.digest.finalize()), self.size))
    }
}

impl<W: Write> Write for Measure<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += u64::try_from(written).unwrap_or_default();
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn sample() -> Image {
        Image::new("localhost/sample:1", &["/bin/run"])
            .with("/bin/run", File { content: Content::Bytes(b"run".to_vec()), mode: 0o755 })
            .with("/bin/also", File::link("run"))
            .with("/tmp", File::directory(0o1777))
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("1.tar"), directory.path().join("2.tar"));
        sample().write(&first).unwrap();
        sample().write(&second).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    }

    #[test]
    fn tar_reads_the_archive_and_the_layer_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        sample().write(&archive).unwrap();
        let unpack = |file: &Path, into: &Path| {
            fs::create_dir(into).unwrap();
            let status = Command::new("tar").arg("-xf").arg(file).arg("-C").arg(into).status();
            assert!(status.unwrap().success());
        };
        let layout = directory.path().join("layout");
        unpack(&archive, &layout);
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let path = layout.join("blobs").join(digest.replace(':', "/"));
            let bytes = fs::read(&path).unwrap();
            assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&bytes))), digest);
            assert_eq!(Some(bytes.len() as u64), descriptor["size"].as_u64());
            path
        };
        let json = |path: PathBuf| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let index = json(layout.join("index.json"));
        let manifest = json(blob(&index["manifests"][0]));
        assert_eq!(json(blob(&manifest["config"]))["config"]["User"], "65532:65532");
        let root = directory.path().join("root");
        unpack(&blob(&manifest["layers"][0]), &root);
        assert_eq!(fs::read_to_string(root.join("bin/also")).unwrap(), "run");
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode();
        assert_eq!(mode("bin/run") & 0o777, 0o755);
        assert_eq!(mode("tmp") & 0o7777, 0o1777);
    }

    #[test]
    fn a_name_without_tag_and_a_relative_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        let error = Image::new("localhost:5000/x", &[]).write(&archive).unwrap_err().to_string();
        assert!(error.contains("no tag"), "{error}");
        let image = Image::new("localhost/x:1", &[]).with("etc/x", File::data("x"));
        let error = image.write(&archive).unwrap_err().to_string();
        assert!(error.contains("`etc/x`"), "{error}");
    }
}
