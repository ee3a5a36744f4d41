//! HTTP: one request for each connection, `GET` and `HEAD` of files.

use core::fmt::Write;

use pv_drivers::front::Error;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

use crate::files::Files;

/// Connections at a time.
pub const CONNECTIONS: usize = 12;
/// Bytes of a connection's buffer for what it receives: a request fits.
pub const RECEIVE: usize = 1024;
/// Bytes of the one for what it sends.
pub const SEND: usize = 8192;

const PORT: u16 = 80;
/// What of a file is read at a time.
const PIECE: usize = 4096;
/// Clients that say nothing for that long are given up.
const SILENCE: Duration = Duration::from_secs(20);

type Path = heapless::String<128>;

/// What a connection is about.
enum Doing {
    /// Waits for a client, or for the rest of its request.
    Listening,
    /// Sends a file from there on.
    Sending { path: Path, at: u32, length: u32 },
    /// Everything is in the buffer: waits for the client to have it.
    Closing,
}

/// A connection, or a place for one.
pub struct Connection {
    handle: SocketHandle,
    doing: Doing,
    /// Requests that were answered.
    pub served: u64,
}

impl Connection {
    /// A place for a connection, with its buffers.
    pub fn add<'a>(sockets: &mut SocketSet<'a>, receive: &'a mut [u8], send: &'a mut [u8]) -> Connection {
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        socket.set_timeout(Some(SILENCE));
        // An answer is not to wait for the acknowledgement of the one before.
        socket.set_nagle_enabled(false);
        Connection {
            handle: sockets.add(socket),
            doing: Doing::Listening,
            served: 0,
        }
    }

    /// Does what can be done; whether that was anything.
    pub fn serve(&mut self, sockets: &mut SocketSet<'_>, files: &Files) -> bool {
        let socket = sockets.get_mut::<Socket<'_>>(self.handle);
        if !socket.is_open() {
            self.doing = Doing::Listening;
            // The port is not zero, and the socket is closed: there is no other reason to refuse.
            return socket.listen(PORT).is_ok();
        }
        if socket.state() == State::TimeWait {
            // The client has everything, and said so. To wait for stray segments would keep the place from others.
            socket.abort();
            return true;
        }
        match &mut self.doing {
            Doing::Listening => self.listen(socket, files),
            Doing::Sending { path, at, length } => {
                let mut piece = [0; PIECE];
                let room = socket.send_capacity() - socket.send_queue();
                let wanted = PIECE.min((*length - *at) as usize);
                if !socket.may_send() {
                    socket.abort();
                    return true;
                }
                if room < wanted {
                    return false;
                }
                match files.read(path, *at, &mut piece[..wanted]) {
                    // There is room for all of it.
                    Ok(read) if read == wanted && socket.send_slice(&piece[..read]) == Ok(read) => {
                        *at += read as u32
                    }
                    // The length was promised: the client is to see that this is not all.
                    _ => socket.abort(),
                }
                if at == length {
                    socket.close();
                    self.doing = Doing::Closing;
                }
                true
            }
            Doing::Closing => {
                // What else it says does not matter.
                socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok()
            }
        }
    }

    /// Reads a request, when it is whole.
    fn listen(&mut self, socket: &mut Socket<'_>, files: &Files) -> bool {
        if !socket.may_recv() && socket.may_send() && !socket.can_recv() {
            // The client has ended before its request did.
            socket.abort();
            return true;
        }
        if !socket.can_recv() {
            return false;
        }
        let mut bytes = [0; RECEIVE];
        // It can receive: that was just asked.
        let length = socket.peek_slice(&mut bytes).unwrap_or(0);
        let request = &bytes[..length];
        let whole = request.windows(4).any(|end| end == b"\r\n\r\n");
        if !whole && length < RECEIVE {
            return false;
        }
        let _ = socket.recv(|bytes| (bytes.len(), ()));
        let answer = if whole {
            answer(request, files)
        } else {
            Answer::error(431, "Request Header Fields Too Large")
        };
        // The buffer is empty, and larger than a header.
        let _ = socket.send_slice(answer.header.as_bytes());
        self.served += 1;
        self.doing = match answer.file {
            Some((path, length)) if length > 0 => Doing::Sending { path, at: 0, length },
            _ => {
                socket.close();
                Doing::Closing
            }
        };
        true
    }
}

/// A header, and the file behind it.
struct Answer {
    header: heapless::String<320>,
    file: Option<(Path, u32)>,
}

impl Answer {
    fn new(status: u16, word: &str, kind: &str, length: u32) -> Answer {
        let mut header = heapless::String::new();
        // Less than its capacity.
        let _ = write!(
            header,
            "HTTP/1.1 {status} {word}\r\nServer: pv-drivers\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        Answer { header, file: None }
    }

    fn error(status: u16, word: &str) -> Answer {
        let mut answer = Answer::new(status, word, "text/plain", word.len() as u32);
        let _ = answer.header.push_str(word);
        answer
    }
}

fn answer(request: &[u8], files: &Files) -> Answer {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = core::str::from_utf8(line).unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let Some(path) = path.strip_prefix('/') else {
        return Answer::error(400, "Bad Request");
    };
    if method != "GET" && method != "HEAD" {
        return Answer::error(405, "Method Not Allowed");
    }
    let path = if path.is_empty() { "index.html" } else { path };
    let Ok(path) = Path::try_from(path) else {
        return Answer::error(414, "URI Too Long");
    };
    match files.find(&path) {
        Ok(found) => {
            let mut answer = Answer::new(200, "OK", kind(&path), found.length);
            if method == "GET" {
                answer.file = Some((path, found.length));
            }
            answer
        }
        Err(Error::NotInUse) => Answer::error(404, "Not Found"),
        Err(_) => Answer::error(503, "Service Unavailable"),
    }
}

/// A file's kind, by its name.
fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("txt") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}
