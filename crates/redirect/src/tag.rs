//! Sockets that a process of a pod made itself, and to which only their rights are added: their memory is the pod's then.
//!
//! A process has got no rights over networks that are not its own, so that a socket must be of the pod's network before anything is
//! added to it. The kernel looks up names of interfaces in the network of the socket that it is asked by: a network that has been
//! given a name that is no other's is known by any of its sockets.

use std::{io, os::fd::BorrowedFd};

use nullius_nft::netlink::{
    ACK, APPEND, CREATE, Connection, EXCLUSIVE, Messages, Protocol, REQUEST,
};
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol as Transport, Socket, Type};

use crate::{Mark, Network, RedirectError, sockets::borrow};

const NEW_PROPERTY: u16 = 108;
const PROPERTIES: u16 = 52;
const ALTERNATIVE_NAME: u16 = 53;
const LOOPBACK: u32 = 1;
const EXISTS: i32 = 17;
const NO_DEVICE: i32 = 19;

/// The name of one network, which the loopback interface has beside its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// Why nothing is added to a socket.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// It is something else than what was asked for.
    #[error("it is no new TCP socket of the family that was named")]
    Kind,
    /// It is in somebody else's network.
    #[error("it is a socket of another network than the pod's")]
    Network,
    /// The kernel refuses.
    #[error("the kernel refuses: {0}")]
    Kernel(#[from] io::Error),
}

impl Tag {
    /// A name of these bytes, which no other network of the machine may have. It is no secret.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("nls{hex}"))
    }

    /// Lets a socket of the tagged network call past the rules.
    pub fn let_out(
        &self,
        socket: BorrowedFd<'_>,
        is_ipv6: bool,
        mark: Mark,
    ) -> Result<(), NotAdded> {
        Ok(self.checked(socket, is_ipv6)?.set_mark(mark.0)?)
    }

    /// Lets a socket of the tagged network borrow the address of a client, for calls to the pod alone.
    pub fn let_in(&self, socket: BorrowedFd<'_>, is_ipv6: bool) -> Result<(), NotAdded> {
        Ok(borrow(&self.checked(socket, is_ipv6)?, is_ipv6)?)
    }

    /// The same socket, by a descriptor of this process.
    fn checked(&self, socket: BorrowedFd<'_>, is_ipv6: bool) -> Result<Socket, NotAdded> {
        let socket = Socket::from(socket.try_clone_to_owned()?);
        let family = if is_ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let is_kind = || -> io::Result<bool> {
            Ok(socket.domain()? == family
                && socket.r#type()? == Type::STREAM
                && socket.protocol()? == Some(Transport::TCP))
        };
        // What is no socket at all does not say.
        if !is_kind().unwrap_or(false) {
            return Err(NotAdded::Kind);
        }
        match name_to_index(&socket, &self.0) {
            Ok(LOOPBACK) => Ok(socket),
            Ok(_) => Err(NotAdded::Network),
            Err(error) if error.raw_os_error() == NO_DEVICE => Err(NotAdded::Network),
            Err(error) => Err(NotAdded::Kernel(error.into())),
        }
    }
}

impl Network {
    /// Gives the network its name, which it keeps as long as it is there. It blocks.
    pub fn tag(&self, tag: &Tag) -> Result<(), RedirectError> {
        let failed = |source| RedirectError::Routes { what: "the names of loopback", source };
        self.on_a_thread(|| {
            let connection = Connection::open(Protocol::Route).map_err(failed)?;
            match connection.ask(named(tag)) {
                Err(error) if error.raw_os_error() != Some(EXISTS) => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }
}

fn named(tag: &Tag) -> Messages {
    let mut messages = Messages::default();
    // Family and type of device are anything; number; no flags.
    let mut fixed = vec![0; 4];
    for number in [LOOPBACK, 0, 0] {
        fixed.extend(number.to_ne_bytes());
    }
    messages.begin(NEW_PROPERTY, REQUEST | ACK | CREATE | EXCLUSIVE | APPEND, 1, &fixed).nested(
        PROPERTIES,
        |inner| {
            inner.text(ALTERNATIVE_NAME, &tag.0);
        },
    );
    messages
}
