//! Servers behind a proxy, and how requests are counted.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::TextEncoder;

use super::support::*;

/// A proxy that knows CONNECT and nothing else. It lives as long as the test.
struct Proxy {
    address: SocketAddr,
    /// The heads of what it was asked.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&proxy.asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = Arc::clone(&asked);
                // Whoever asks may go at any time.
                thread::spawn(move || drop(tunnel(stream, &asked)));
            }
        });
        proxy
    }
}

fn tunnel(mut client: TcpStream, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(head);
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut back, mut answers) = (client, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        back.shutdown(Shutdown::Both)
    });
    io::copy(&mut reader, &mut server)?;
    server.shutdown(Shutdown::Both)
}

#[test]
fn the_proxy_that_a_kubeconfig_names_is_used() {
    let proxy = Proxy::start();
    let mut content = Content::new(true);
    content.objects.insert("services", vec![service("a", 80, 7)]);
    let url = format!("http://user:word@{}", proxy.address);
    let mut followed = Followed::through(content, Some(&url), Content::answer);
    followed.expect(&["a:80"]);
    let asked = proxy.asked.lock().unwrap();
    let line = format!("CONNECT {} HTTP/1.1\r\n", followed.fake.url().trim_start_matches("http://"));
    assert!(!asked.is_empty());
    for head in asked.iter() {
        assert!(head.starts_with(&line), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjp3b3jk\r\n"), "{head}");
    }
}

#[test]
fn requests_are_counted_as_client_go_counts_them() {
    let mut content = Content::new(false);
    content.objects.insert("services", vec![service("a", 80, 7)]);
    let mut followed = Followed::of(content);
    followed.expect(&["a:80"]);
    let host = followed.fake.url().trim_start_matches("http://").to_owned();
    let end = Instant::now() + SOON;
    loop {
        let text = TextEncoder::new().encode_to_string(&followed.requests.collect()).unwrap();
        let value = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name));
            rest.map_or(0.0, |value| value.trim().parse::<f64>().unwrap())
        };
        let total = |code: &str| {
            value(&format!("rest_client_requests_total{{code=\"{code}\",host=\"{host}\",method=\"GET\"}}"))
        };
        let timed =
            value(&format!("rest_client_request_duration_seconds_count{{host=\"{host}\",verb=\"GET\"}}"));
        // Four streaming lists that are refused, as many ordinary ones, and as many watches. Nodes and ServiceCIDRs may
        // come after everything is whole.
        let (refused, answered) = (total("422"), total("200"));
        if refused >= 4.0 && answered >= 8.0 && timed == refused + answered + total("<error>") {
            break;
        }
        assert!(Instant::now() < end, "{text}");
        thread::sleep(Duration::from_millis(1));
    }
}
