//! A page served and a page fetched: as much HTTP as that takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Serves one page to everybody, for as long as this process runs.
pub fn serve(address: &str, page: Vec<u8>) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that goes away harms itself only.
            let _ = answer(connection, &page);
        }
    });
    Ok(())
}

fn answer(mut connection: TcpStream, page: &[u8]) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut request = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let length = page.len();
    write!(
        connection,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    connection.write_all(page)?;
    Ok(())
}

/// Fetches a page's content.
pub fn fetch(address: &str, path: &str) -> Result<Vec<u8>> {
    let target = address.parse().context("an address and a port")?;
    let mut connection = TcpStream::connect_timeout(&target, Duration::from_secs(20))?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200"),
        "no page: {}",
        first_line(&answer)
    );
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the answer has no content")?;
    Ok(answer.split_off(end + 4))
}

fn first_line(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer)
        .lines()
        .next()
        .unwrap_or("an empty answer")
        .to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_served_is_the_page_fetched() {
        let page = vec![7; 100_000];
        super::serve("127.0.0.1:18080", page.clone()).unwrap();
        assert_eq!(super::fetch("127.0.0.1:18080", "/page").unwrap(), page);
    }
}
