//! The plugin's side of a question to the node.

use std::{
    io::{self, IoSlice, Read as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::wire::{Answer, MOST, Question};

/// The node answers sooner; kubelets wait longer.
const PATIENCE: Duration = Duration::from_secs(40);

/// Asks the node.
pub(super) fn ask(
    socket: &Path,
    question: &Question,
    network: Option<&OwnedFd>,
) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    send(&stream, &line, network)?;
    let mut answer = Vec::new();
    (&stream).take(MOST as u64).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn send(stream: &UnixStream, mut bytes: &[u8], network: Option<&OwnedFd>) -> io::Result<()> {
    let network = network.map(|network| [network.as_fd()]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if let Some(network) = &network
        && !beside.push(SendAncillaryMessage::ScmRights(network))
    {
        return Err(io::Error::other("there is no room for the network's descriptor"));
    }
    while !bytes.is_empty() {
        let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        bytes = bytes.get(sent..).unwrap_or_default();
        // It goes with the first byte.
        beside.clear();
    }
    Ok(())
}
