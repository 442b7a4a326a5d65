//! A workload of the tests.
//!
//! `watch SOCKET` asks by itself. `relay SOCKET PROGRAM…` connects, leaves the talking to a child that inherits the socket, and becomes
//! PROGRAM after a line on its standard input. Each set is one line, `set ID …`; the end is `error WHY`.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use hyper_util::rt::TokioIo;
use nullius_proto::spiffe::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use tonic::{Request, metadata::MetadataValue, transport::Endpoint};

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["watch", socket] => watch(UnixStream::connect(socket)?),
        ["relay", socket, program, arguments @ ..] => relay(socket, program, arguments),
        ["inherited"] => {
            let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
            watch(UnixStream::from(socket))
        }
        other => Err(format!("say `watch SOCKET` or `relay SOCKET PROGRAM`, not {other:?}").into()),
    }
}

fn relay(socket: &str, program: &str, arguments: &[&str]) -> Result<(), Failed> {
    let socket: OwnedFd = UnixStream::connect(socket)?.into();
    Command::new(env::current_exe()?).arg("inherited").stdin(Stdio::from(socket)).spawn()?;
    // Byte by byte and past the buffer of this process: what follows the line is for the program.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut byte = [0];
    while input.read(&mut byte)? == 1 && byte != *b"\n" {}
    Err(Command::new(program).args(arguments).exec().into())
}

#[tokio::main(flavor = "current_thread")]
async fn watch(socket: UnixStream) -> Result<(), Failed> {
    socket.set_nonblocking(true)?;
    let socket = Mutex::new(Some(tokio::net::UnixStream::from_std(socket)?));
    let connector = tower::service_fn(move |_| {
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        async { socket.map(TokioIo::new).ok_or_else(|| io::Error::other("there is one socket")) }
    });
    let end = async {
        let channel = Endpoint::from_static("http://node").connect_with_connector(connector).await;
        let mut api = SpiffeWorkloadApiClient::new(channel.map_err(|error| error.to_string())?);
        let mut request = Request::new(X509svidRequest {});
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let told = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
        let mut sets = api.fetch_x509svid(request).await.map_err(told)?.into_inner();
        while let Some(set) = sets.message().await.map_err(told)? {
            let ids: Vec<_> = set.svids.into_iter().map(|svid| svid.spiffe_id).collect();
            say(&format!("set {}", ids.join(" "))).map_err(|error| error.to_string())?;
        }
        Err::<(), _>("the stream has ended".to_owned())
    };
    match end.await {
        Ok(()) => Ok(()),
        Err(why) => Ok(say(&format!("error {why}"))?),
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
