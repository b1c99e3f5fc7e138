//! A server that speaks as much of HTTP and of the protocol of lists and watches as it takes to say anything at all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The path, such as `/api/v1/services`.
    pub(crate) path: String,
    /// The query, its values as they are in the URL.
    pub(crate) query: BTreeMap<String, String>,
    /// The header `Authorization`.
    pub(crate) authorization: String,
}

impl Question {
    /// The last part of the path.
    pub(crate) fn resource(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    /// A value of the query; empty if there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }
}

/// What is answered.
pub(crate) enum Answer {
    /// A status, and a body.
    Text(u16, String),
    /// Lines as they come, until the sender is dropped: a watch.
    Lines(Receiver<Line>),
}

/// A part of a watch.
pub(crate) enum Line {
    /// As it is.
    Text(String),
    /// The connection breaks.
    Break,
}

/// Lines of a watch that a test sends.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Sender<Line>);

impl Lines {
    /// A watch, and who feeds it.
    pub(crate) fn new() -> (Self, Answer) {
        let (sender, lines) = channel();
        (Self(sender), Answer::Lines(lines))
    }

    /// Sends an event. Nobody may listen any more.
    pub(crate) fn send(&self, event: &serde_json::Value) {
        drop(self.0.send(Line::Text(format!("{event}\n"))));
    }

    /// Sends the beginning of an event, and breaks the connection.
    pub(crate) fn tear(&self) {
        drop(self.0.send(Line::Text("{\"type\":\"ADDED\",\"obj".to_owned())));
        drop(self.0.send(Line::Break));
    }
}

type Handler = Box<dyn FnMut(&Question) -> Answer + Send>;

/// A server. It lives as long as the test.
pub(crate) struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Fake {
    /// Begins to answer as `handler` says.
    pub(crate) fn start(handler: impl FnMut(&Question) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&fake.asked);
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(Box::new(handler)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, handler) = (Arc::clone(&asked), Arc::clone(&handler));
                thread::spawn(move || {
                    // Whoever asks may go at any time.
                    let _ = serve(stream, &mut |question| {
                        asked.lock().unwrap().push(question.clone());
                        (handler.lock().unwrap())(question)
                    });
                });
            }
        });
        fake
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it was asked about a resource so far.
    pub(crate) fn asked(&self, resource: &str) -> Vec<Question> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|question| question.resource() == resource)
            .cloned()
            .collect()
    }
}

fn serve(mut stream: TcpStream, answer: &mut dyn FnMut(&Question) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        while head.last().is_none_or(|line: &String| !line.trim().is_empty()) {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push(line);
        }
        let target = head[0].split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &&String| line.to_lowercase().starts_with("authorization:");
        let authorization = head.iter().find(header).map_or("", |line| &line[14..]).trim().to_owned();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        match answer(&Question { path: path.to_owned(), query, authorization }) {
            Answer::Text(status, body) => {
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")?;
            }
            Answer::Lines(lines) => {
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for line in lines {
                    match line {
                        Line::Text(text) => write!(stream, "{:x}\r\n{text}\r\n", text.len())?,
                        Line::Break => return Ok(()),
                    }
                }
                write!(stream, "0\r\n\r\n")?;
            }
        }
        stream.flush()?;
    }
}
