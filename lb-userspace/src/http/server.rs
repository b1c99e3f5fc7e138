//! Listening, and serving what connects.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Board;
use crate::status::Problem;

/// Connections of one server at once.
const CONNECTIONS: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a client may take for the head of a request, and be silent between two.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last: who reads so slowly is cut off.
const LIFE: Duration = Duration::from_secs(60);
/// The longest head of a request, bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// When to listen again where it failed (B95).
const AGAIN: Duration = Duration::from_secs(5);

/// What is sent back.
pub type Answer = Response<Full<Bytes>>;

/// An answer of `content_type`, which no browser is to take for anything else.
#[must_use]
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// `value` as JSON.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Plain text.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// There is nothing at this path; `paths` are those where there is.
#[must_use]
pub fn not_found(paths: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("not here; there are {paths}\n"))
}

/// Listens at `addr`; `[::]` means IPv4 as well unless `only_v6`.
///
/// # Errors
/// The kernel refused: the address is in use, or not this node's.
pub fn bind(addr: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections that have just ended must not keep a new agent from its port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

/// Serves at `addr` for ever; `listener` is the socket if there is one already. What keeps it from listening stands on
/// `board` under `name`, and is tried again.
pub async fn keep<F: Future<Output = Answer> + Send + 'static>(
    name: &'static str,
    addr: SocketAddr,
    mut listener: Option<TcpListener>,
    board: &Board,
    handler: impl Fn(String) -> F + Clone + Send + Sync + 'static,
) {
    loop {
        match listener.take().map_or_else(|| bind(addr, false), Ok) {
            Ok(listener) => {
                board.tell(name, Vec::new());
                serve(listener, handler.clone()).await;
            }
            Err(error) => {
                let text = format!("nobody listens at {addr}: {error}; it is tried again");
                board.tell(name, vec![Problem::new(name, text)]);
                sleep(AGAIN).await;
            }
        }
    }
}

/// Serves `listener` for ever; `handler` is given the path of each request. What is dropped is closed.
pub async fn serve<F: Future<Output = Answer> + Send + 'static>(
    listener: TcpListener,
    handler: impl Fn(String) -> F + Clone + Send + Sync + 'static,
) {
    let mut connections = JoinSet::new();
    let mut ages: VecDeque<AbortHandle> = VecDeque::new();
    let mut failing = false;
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            () = ended(&mut connections) => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                ages.retain(|connection| !connection.is_finished());
                if ages.len() >= CONNECTIONS
                    && let Some(oldest) = ages.pop_front()
                {
                    oldest.abort();
                }
                ages.push_back(connections.spawn(converse(stream, handler.clone())));
            }
            Err(error) => {
                // Of this process all file descriptors may be in use.
                if !failing {
                    warn!("accept: {error}");
                }
                failing = true;
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits until one of the connections has ended.
async fn ended(connections: &mut JoinSet<()>) {
    if connections.join_next().await.is_none() {
        pending::<()>().await;
    }
}

async fn converse<F: Future<Output = Answer> + Send + 'static>(
    stream: TcpStream,
    handler: impl Fn(String) -> F + Send + Sync + 'static,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = handler(request.uri().path().to_owned());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    match timeout(LIFE, connection).await {
        Ok(Ok(())) | Err(_) => {}
        // Whoever sends nonsense or goes away is no concern of the operator's.
        Ok(Err(error)) => debug!("HTTP: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    /// A server in a thread of its own, that greets with the path.
    fn start() -> SocketAddr {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            bind("127.0.0.1:0".parse().unwrap(), false).unwrap()
        };
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            runtime.block_on(serve(listener, |path| async move {
                text(StatusCode::OK, format!("this is {path}"))
            }));
        });
        addr
    }

    fn send(addr: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn bad_and_slow_clients_keep_nobody_from_an_answer() {
        let addr = start();
        // More than are served at once, and none of them says anything, or not enough.
        let mut silent: Vec<TcpStream> = Vec::new();
        for number in 0..CONNECTIONS + 40 {
            let mut stream = TcpStream::connect(addr).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /slow HTTP/1.1\r\nHost:").unwrap();
            }
            silent.push(stream);
        }
        let asked = send(addr, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(asked.starts_with("HTTP/1.1 200 OK\r\n"), "{asked}");
        assert!(asked.contains("\r\nx-content-type-options: nosniff\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\nthis is /a"), "{asked}");
        let long = [b"GET /".as_slice(), &[b'a'; 64 << 10], b" HTTP/1.1\r\n\r\n"].concat();
        for nonsense in [b"\x16\x03\x01\x02\x00\x01".as_slice(), b"HELLO\r\n\r\n", &long] {
            assert!(!send(addr, nonsense).contains("200 OK"));
        }
        let posted = send(addr, b"POST /p HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
        assert!(posted.ends_with("this is /p"), "{posted}");
        let head = send(addr, b"HEAD /h HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn both_families_can_have_the_same_port() {
        let v4 = bind("0.0.0.0:0".parse().unwrap(), false).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = SocketAddr::new("::".parse().unwrap(), port);
        assert!(bind(v6, true).is_ok());
        assert_eq!(bind(v6, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
