//! A writer of tar archives (POSIX ustar) without any choice: time zero, owner root, what the caller gives.

use std::io::{Read, Write};

use anyhow::{Result, bail};

const BLOCK: usize = 512;

/// What an entry without content is.
pub(super) enum Kind<'a> {
    Directory,
    Link(&'a str),
}

/// An archive that is being written.
pub(super) struct Archive<W: Write> {
    out: W,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds a directory or a symbolic link.
    pub(super) fn entry(&mut self, name: &str, mode: u32, kind: Kind<'_>) -> Result<()> {
        let header = match kind {
            Kind::Directory => header(name, mode, 0, b'5', "")?,
            Kind::Link(target) => header(name, mode, 0, b'2', target)?,
        };
        self.out.write_all(&header)?;
        Ok(())
    }

    /// Adds a file with these bytes.
    pub(super) fn bytes(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let size = u64::try_from(bytes.len())?;
        self.stream(name, mode, size, &mut &*bytes)
    }

    /// Adds a file whose content is read; it must hold `size` bytes.
    pub(super) fn stream(
        &mut self,
        name: &str,
        mode: u32,
        size: u64,
        content: &mut impl Read,
    ) -> Result<()> {
        self.out.write_all(&header(name, mode, size, b'0', "")?)?;
        let copied = std::io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size {
            bail!("`{name}` became shorter while it was read");
        }
        let rest = usize::try_from(size % BLOCK as u64)?;
        if rest > 0 {
            self.out.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn header(name: &str, mode: u32, size: u64, kind: u8, link: &str) -> Result<[u8; BLOCK]> {
    let mut header = [0_u8; BLOCK];
    let (prefix, name) = split(name)?;
    if link.len() > 100 || size >= 1 << 33 {
        bail!("`{name}` has too long a link target or too much content for a tar archive");
    }
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Splits a name at a slash into the two fields that hold it.
fn split(name: &str) -> Result<(&str, &str)> {
    if name.len() <= 100 {
        return Ok(("", name));
    }
    let fits = |at: &usize| *at <= 155 && name.len() - at - 1 <= 100 && name.len() > at + 1;
    let slash = name.match_indices('/').map(|(at, _)| at).find(fits);
    let Some(at) = slash else {
        bail!("`{name}` is too long a name for a tar archive");
    };
    Ok((&name[..at], &name[at + 1..]))
}
