//! Start: from exec to the first answer, and the memory of a server that has nothing to do.

use crate::args::{Args, die};
use crate::clock::{now_ns, seconds_since, sleep_ms, sleep_ns};
use crate::json::Line;
use crate::process::{Usage, with_children};
use crate::socket::connect;
use crate::turns::spread;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ANSWER_SECONDS_MAX: f64 = 30.0;

/// `--cmd` is split at blanks, without a shell.
pub fn command(args: &Args) {
    let words = args.needed("cmd");
    let address = args.needed("addr");
    let path = args.text("path", "/");
    let label = args.text("label", "start");
    let (mut times, mut rss_mb) = (vec![], vec![]);
    for _ in 0..args.number("runs", 3) {
        if answers(&address, &path) {
            die(format!("something answers at {address} already"));
        }
        let mut parts = words.split_whitespace();
        let mut command = Command::new(parts.next().unwrap_or_else(|| die("--cmd is empty")));
        command.args(parts).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = now_ns();
        let mut child = command.spawn().unwrap_or_else(|error| die(format!("{words}: {error}")));
        while !answers(&address, &path) {
            if seconds_since(begun) > ANSWER_SECONDS_MAX || !matches!(child.try_wait(), Ok(None)) {
                stop(&mut child);
                die(format!("no answer at {address}{path}"));
            }
            sleep_ns(200_000);
        }
        times.push(seconds_since(begun) * 1e3);
        sleep_ms(1500);
        rss_mb.push(Usage::of(&with_children(&[child.id()])).rss_kb as f64 / 1024.0);
        stop(&mut child);
    }
    let [min, median, max] = spread(times.into_iter()).unwrap_or_default();
    let rss = spread(rss_mb.into_iter()).unwrap_or_default()[1];
    println!("{label}: first answer after {min:.1} / {median:.1} / {max:.1} ms; idle rss {rss:.1} MB");
    Line::new("start-summary", &label)
        .number("ms", median)
        .number("ms_max", max)
        .number("rss_mb", rss)
        .emit(args);
}

/// Whether one request is answered over HTTP.
fn answers(address: &str, path: &str) -> bool {
    let Ok(mut stream) = connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = [0u8; 16];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1")
}

/// Ends the process as a service manager would, and by force after ten seconds.
fn stop(child: &mut Child) {
    // SAFETY: our own child, not yet waited for, so the id is still its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    for _ in 0..200 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        sleep_ms(50);
    }
    let _ = child.kill();
    let _ = child.wait();
}
