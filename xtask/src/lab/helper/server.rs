//! Servers that answer with their name and the client that they see.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rustix::net::listen;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::wire::{Answer, Failure, Transport};

/// How much of what was sent to a socket for datagrams may wait there, in bytes of the kernel's memory.
const WAITING: usize = 8 << 20;

/// How many connections may wait to be accepted. The 128 of the standard library are fewer than there are clients that ask
/// at once; who is turned away tries again after a second, and after three.
const BACKLOG: i32 = 4096;

/// Starts a server on every address of both families. It runs until the process ends.
pub(super) fn start(transport: Transport, port: u16, name: String) -> Result<(), Failure> {
    let begun = Instant::now();
    let bind = (Ipv6Addr::UNSPECIFIED, port);
    let name: Arc<str> = name.into();
    match transport {
        Transport::Tcp => TcpListener::bind(bind).and_then(|listener| {
            listen(&listener, BACKLOG)?;
            thread::spawn(move || {
                answer_first();
                for stream in listener.incoming().flatten() {
                    let name = Arc::clone(&name);
                    // A client that goes away ends its thread, and nobody needs to know.
                    thread::spawn(move || serve_stream(&stream, &name));
                }
            });
            Ok(())
        }),
        Transport::Udp => UdpSocket::bind(bind).and_then(|socket| {
            // Hundreds of clients may ask before a busy machine lets this answer the first.
            set_socket_recv_buffer_size_force(&socket, WAITING)?;
            thread::spawn(move || serve_datagrams(&socket, &name));
            Ok(())
        }),
    }
    .map_err(|error| Failure::new("bind", &error, begun))
}

/// Lets this thread, and those that it starts, run before others. A thousand clients on a busy machine may keep a server from
/// the processor for as long as a client takes for silence; a client that waits for the processor has its answer meanwhile.
/// Who may not have it so answers all the same.
fn answer_first() {
    let _ = rustix::process::nice(-20);
}

fn serve_stream(stream: &TcpStream, name: &str) -> io::Result<()> {
    let answer = answer(name, stream.peer_addr()?)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.starts_with("GET ") {
            while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
            return write!(
                &mut &*stream,
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            );
        }
        (&mut &*stream).write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn serve_datagrams(socket: &UdpSocket, name: &str) {
    answer_first();
    let mut buffer = [0; 2048];
    // Errors are those of earlier answers, such as a port unreachable from a client that has gone.
    loop {
        if let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = answer(name, client).and_then(|text| socket.send_to(text.as_bytes(), client));
        }
    }
}

fn answer(name: &str, client: SocketAddr) -> io::Result<String> {
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let answer = Answer { pod: name.to_owned(), client, from: None };
    Ok(serde_json::to_string(&answer)? + "\n")
}
