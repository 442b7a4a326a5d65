#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::fd::BorrowedFd,
    os::unix::net::UnixStream as Plain,
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const SOON: Duration = Duration::from_secs(1);

/// A connection that lingers when it is closed, because the other end does not read.
struct Lingering {
    end: TcpStream,
    _others: (TcpStream, TcpListener),
}

fn lingering(for_long: Duration) -> Lingering {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (deaf, _) = listener.accept().unwrap();
    end.set_nonblocking(true).unwrap();
    while end.write(&[0; 65_536]).is_ok() {}
    sockopt::set_socket_linger(&end, Some(for_long)).unwrap();
    Lingering { end, _others: (deaf, listener) }
}

fn hand_over(to: &Plain, bytes: &[u8], all: &[BorrowedFd<'_>], flags: SendFlags) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(all)));
    sendmsg(to, &[IoSlice::new(bytes)], &mut beside, flags).unwrap();
}

/// Sends a connection that lingers for a minute, which nobody else has then.
fn attack(to: &Plain, flags: SendFlags) -> impl Sized + use<> {
    let Lingering { end, _others } = lingering(Duration::from_secs(60));
    hand_over(to, b"?", &[end.as_fd()], flags);
    _others
}

/// Tells when it is dropped.
struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn guarded() -> (Plain, Guarded, mpsc::Receiver<()>) {
    let (theirs, ours) = Plain::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (tell, told) = mpsc::channel();
    let guarded = Guarded::new(UnixStream::from_std(ours).unwrap(), Arc::new(Told(tell))).unwrap();
    (theirs, guarded, told)
}

#[tokio::test]
async fn a_stream_with_what_nobody_received_is_dropped_at_once() {
    let (mut theirs, guarded, told) = guarded();
    let begun = Instant::now();
    theirs.write_all(b"some bytes").unwrap();
    let _deaf: Vec<_> = (0..3).map(|_| attack(&theirs, SendFlags::empty())).collect();
    let _band = attack(&theirs, SendFlags::OOB);
    drop(guarded);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    theirs.write_all(b"more").unwrap_err();
    told.recv_timeout(5 * SOON).unwrap();
}

#[tokio::test]
async fn an_ordinary_end_takes_no_thread() {
    let (mut theirs, mut guarded, told) = guarded();
    guarded.write_all(b"an answer").await.unwrap();
    theirs.write_all(&[7; 100_000]).unwrap();
    let mut bytes = [0; 9];
    guarded.read_exact(&mut bytes).await.unwrap();
    drop(guarded);
    assert!(told.try_recv().is_ok(), "nothing is left to be closed");
    io::Read::read_exact(&mut theirs, &mut bytes).unwrap();
    assert_eq!(&bytes, b"an answer");
}

#[tokio::test]
async fn a_reader_takes_no_descriptor_in_band_or_out_of_it() {
    for flags in [SendFlags::empty(), SendFlags::OOB] {
        let (mut theirs, mut guarded, told) = guarded();
        let refused = guarded.refused();
        theirs.write_all(b"12").unwrap();
        let mut bytes = [0; 2];
        guarded.read_exact(&mut bytes).await.unwrap();
        assert!(!refused.is_cancelled());
        let begun = Instant::now();
        let _deaf = attack(&theirs, flags);
        theirs.write_all(b"3").unwrap();
        guarded.read_u8().await.unwrap_err();
        assert!(refused.is_cancelled());
        drop(guarded);
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        told.recv_timeout(5 * SOON).unwrap();
    }
}

#[tokio::test]
async fn as_many_as_a_message_has_find_room_and_no_more_are_kept_than_may_be() {
    let (theirs, mut guarded, _told) = guarded();
    let many = vec![theirs.as_fd(); ROOM];
    hand_over(&theirs, b"all", &many, SendFlags::empty());
    assert_eq!(guarded.receive(ROOM).await.unwrap(), b"all");
    assert_eq!(guarded.handed().all().len(), ROOM);
    for _ in 0..2 {
        hand_over(&theirs, b".", &many[..2], SendFlags::empty());
    }
    assert_eq!(guarded.receive(3).await.unwrap(), b".");
    guarded.receive(3).await.unwrap_err();
}

#[tokio::test]
async fn a_place_is_taken_for_as_long_as_a_thread_waits() {
    let long = Duration::from_secs(2);
    for at_drop in [true, false] {
        let (theirs, mut guarded, told) = guarded();
        // Of what stands in a stream that is handed over nobody but the kernel knows: it lingers on.
        let (inner, other) = Plain::pair().unwrap();
        let Lingering { end, _others } = lingering(long);
        hand_over(&inner, b"?", &[end.as_fd()], SendFlags::empty());
        drop((inner, end));
        hand_over(&theirs, b"!", &[other.as_fd()], SendFlags::empty());
        drop(other);
        let begun = Instant::now();
        guarded.receive(1).await.unwrap();
        let handed = guarded.handed();
        if at_drop {
            drop((handed, guarded));
            assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
            told.recv_timeout(5 * long).unwrap();
        } else {
            // Others go on meanwhile on this one thread.
            let closing = tokio::spawn(handed.close());
            tokio::time::timeout(long / 4, guarded.said_more()).await.unwrap_err();
            assert!(!closing.is_finished());
            closing.await.unwrap();
        }
        assert!(begun.elapsed() >= long - SOON / 10, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn who_says_more_is_heard_and_not_read() {
    let (mut theirs, mut guarded, _told) = guarded();
    theirs.write_all(b"a").unwrap();
    assert_eq!(guarded.receive(0).await.unwrap(), b"a");
    let more = tokio::time::timeout(SOON / 10, guarded.said_more()).await;
    assert!(more.is_err(), "all was read");
    let _deaf = attack(&theirs, SendFlags::empty());
    let begun = Instant::now();
    guarded.said_more().await;
    drop(guarded);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}
