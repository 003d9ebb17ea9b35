//! Who writes: the writer's thread, or whoever commits.

use super::gate::Gate;
use super::*;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);

/// A disk that notes who syncs, and may take its time.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<(Duration, Option<String>)>>);

struct NotingTape(Box<dyn Tape>, Noting);

impl Disk for Noting {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(NotingTape(RealDisk.tape(file), self.clone()))
    }
}

impl Tape for NotingTape {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write(bytes, at)
    }

    /// Not to stable storage: this is about threads.
    fn sync(&self) -> io::Result<()> {
        let takes = {
            let mut noted = self.1.0.lock().unwrap();
            noted.1 = std::thread::current().name().map(str::to_owned);
            noted.0
        };
        std::thread::sleep(takes);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

/// A log, and commits to it of which one can tell who wrote them.
struct Setup {
    log: Arc<EmbeddedLog>,
    disk: Noting,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Noting::default());
        let options = Options { disk: Arc::new(disk.clone()), ..Options::default() };
        Self { log: Arc::new(open_with(dir.path(), options).unwrap()), disk, _dir: dir }
    }

    fn set_sync(&self, takes: Duration) {
        self.disk.0.lock().unwrap().0 = takes;
    }

    /// Commits in a task of its own; whether the writer's thread wrote it.
    async fn is_written_by_thread(&self, data: &str) -> bool {
        let (log, batch) = (Arc::clone(&self.log), one("a", data));
        tokio::spawn(async move { log.commit(batch).await.unwrap() }).await.unwrap();
        self.disk.0.lock().unwrap().1.as_deref() == Some("log-writer")
    }

    /// As above for a batch that nothing speaks against writing in place. Only a machine so busy that a sync seems
    /// slow does; it comes to rest some time.
    async fn is_written_in_place(&self) -> bool {
        let start = Instant::now();
        while self.is_written_by_thread("1").await {
            if start.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_batch_alone_is_written_by_whoever_commits_it() {
    let setup = Setup::new();
    assert!(setup.is_written_in_place().await);
    assert!(setup.is_written_by_thread(&"x".repeat(10_000)).await, "a large batch");
    assert!(setup.is_written_in_place().await);
    setup.set_sync(Duration::from_millis(5));
    // The first one finds out.
    setup.is_written_by_thread("1").await;
    assert!(setup.is_written_by_thread("1").await, "a slow disk");
    setup.set_sync(Duration::ZERO);
    assert!(setup.is_written_in_place().await, "a disk that is quick again");
    setup.log.close().await.unwrap();
    assert!(matches!(setup.log.commit(one("a", "2")).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_runtime_of_one_thread_never_waits_for_the_disk() {
    let setup = Setup::new();
    for _ in 0..20 {
        assert!(setup.is_written_by_thread("1").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nor_does_one_with_a_single_worker() {
    let setup = Setup::new();
    for _ in 0..20 {
        assert!(setup.is_written_by_thread("1").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_stored_in_the_order_in_which_they_are_begun() {
    let setup = Setup::new();
    let log = Arc::clone(&setup.log);
    let begun = async move {
        let mut commits: Vec<_> = Vec::new();
        // Without a pause, which is more than a task may do at once.
        for n in 0..500 {
            let mut commit = log.commit(one("a", &n.to_string()));
            let polled = std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(done) => drop(done.unwrap()),
                Poll::Pending => commits.push(commit),
            }
        }
        for commit in commits.into_iter().rev() {
            commit.await.unwrap();
        }
    };
    tokio::spawn(begun).await.unwrap();
    let stored = setup.log.read(&topic("a"), Offset::ZERO, ALL).await.unwrap();
    let numbers: Vec<u32> = stored.iter().map(|e| e.data().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
}

/// Leaves no worker waiting at a gate, however the test ends.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Commits when it is sent a `c`, and answers anything else.
async fn serve(mut socket: TcpStream, log: Arc<EmbeddedLog>) {
    while let Ok(byte) = socket.read_u8().await {
        if byte == b'c' {
            log.commit(one("a", "1")).await.unwrap();
        }
        socket.write_u8(byte).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_served_while_a_committer_waits_for_the_disk() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gate::default());
    let options = Options { disk: Arc::new(disk.clone()), ..Options::default() };
    let log = Arc::new(open_with(dir.path(), options).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, Arc::clone(&served)));
        }
    });
    let (held, opens) = (disk.clone(), Opens(disk));
    // From outside, so that no worker is awake but by its sockets.
    let clients = std::thread::spawn(move || {
        let (_opens, disk) = (opens, held);
        use std::io::{Read, Write};
        let connect = || {
            let socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let ask = |mut socket: &std::net::TcpStream, byte: u8| {
            socket.write_all(&[byte]).unwrap();
            let mut answer = [0];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte]);
        };
        let (commits, other) = (connect(), connect());
        for _ in 0..20 {
            ask(&commits, b'c');
            ask(&other, b'x');
            let before = disk.waiting();
            disk.hold();
            (&commits).write_all(b"c").unwrap();
            let start = Instant::now();
            while disk.waiting() == before {
                assert!(start.elapsed() < PATIENCE, "nothing was committed");
                std::thread::yield_now();
            }
            ask(&other, b'x');
            disk.open();
            (&commits).read_exact(&mut [0]).unwrap();
        }
    });
    tokio::task::spawn_blocking(|| clients.join().unwrap()).await.unwrap();
    assert_eq!(read(&log, "a").await.len(), 40);
    log.close().await.unwrap();
}
