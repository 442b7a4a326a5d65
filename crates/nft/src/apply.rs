//! The kernel is told, and says what it did not take.

use std::io;

use crate::{
    NftError, Refusal, Table,
    encode::{FIRST, Transaction},
    netlink::{Answer, Connection, Protocol},
};

/// Puts a table in the place of the one by its name, or makes it: as a whole or not at all, with no moment in between.
pub fn replace(table: &Table) -> Result<(), NftError> {
    carry_out(&table.name, Transaction::replace(table))
}

/// Takes a table away with all that is in it; that it is not there is no error.
pub fn remove(name: &str) -> Result<(), NftError> {
    carry_out(name, Transaction::remove(name))
}

fn carry_out(table: &str, transaction: Transaction) -> Result<(), NftError> {
    let Transaction { messages, objects } = transaction;
    let connection = Connection::open(Protocol::Netfilter).map_err(NftError::Netlink)?;
    connection.send(messages).map_err(NftError::Netlink)?;
    let last = FIRST + u32::try_from(objects.len()).unwrap_or(u32::MAX - FIRST) - 1;
    let mut refusals = Vec::new();
    let mut has_ended = false;
    loop {
        let answers = match connection.receive() {
            Ok(answers) => answers,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(NftError::Netlink(error)),
        };
        for answer in answers {
            match answer {
                Answer::Done { sequence } => has_ended |= sequence == last,
                Answer::Refused { sequence, errno, message, offset } => {
                    let at = usize::try_from(sequence.saturating_sub(FIRST)).unwrap_or(usize::MAX);
                    let object = objects.get(at).cloned();
                    let object = object.unwrap_or_else(|| "the transaction".to_owned());
                    refusals.push(Refusal { object, errno, message, offset });
                }
                Answer::Object { .. } => {}
            }
        }
    }
    match (refusals.is_empty(), has_ended) {
        (false, _) => Err(NftError::Refused { table: table.to_owned(), refusals }),
        (true, true) => Ok(()),
        (true, false) => Err(NftError::Unanswered(table.to_owned())),
    }
}
