//! A port of this machine's loopback that leads into a namespace, where kubectl and a client of the API server need not
//! be.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::lab::Space;

/// Forwards connections as long as it lives; those that are open then go on.
#[derive(Debug)]
pub(super) struct Forward {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Forward {
    /// Forwards to `port` of the loopback of `space`.
    pub(super) fn start(space: &Arc<Space>, port: u16) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on a port of 127.0.0.1")?;
        let address = listener.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let (space, ended) = (Arc::clone(space), Arc::clone(&over));
        let listener = thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                // A server that is gone shows as a connection that closes at once.
                if let Ok(client) = client
                    && let Ok(server) = connect(&space, port)
                {
                    let _ = join(client, server);
                }
            }
        });
        Ok(Self { address, over, listener: Some(listener) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn connect(space: &Space, port: u16) -> Result<TcpStream> {
    space.within(|| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?))
}

/// Copies both ways in the background.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(client, server));
    thread::spawn(move || copy(server_too, client_too));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // An end that broke is told to the other as the end of its stream.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
