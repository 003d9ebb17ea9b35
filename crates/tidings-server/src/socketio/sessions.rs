//! Who is connected: sessions by their number, by user, and by the token that they rest on.
//!
//! Owns: finding them, and looking their tokens up again now and then. Never: speaks to a client.

use super::Ask;
use crate::Door;
use crate::conn::Conn;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;
use tidings_engine::auth::TokenLookup;
use tidings_model::Watcher;
use tokio::sync::{Notify, mpsc, oneshot};

/// All sessions of one server.
#[derive(Default)]
pub struct Sessions {
    transports: Mutex<HashMap<String, Arc<Handle>>>,
    known: Mutex<Known>,
    /// Tokens could not be looked up the last time.
    is_failing: AtomicBool,
}

/// Sessions whose user is known.
#[derive(Default)]
struct Known {
    /// By user, then by session id.
    users: HashMap<Arc<str>, BTreeMap<String, Arc<Handle>>>,
    /// Those that rest on a token of the application's own, by that.
    tokens: HashMap<Arc<str>, Holders>,
}

struct Holders {
    user: Arc<str>,
    handles: Vec<Arc<Handle>>,
}

/// How others reach a session.
pub struct Handle {
    /// In order.
    pub mail: mpsc::Sender<Ask>,
    /// Polls do not wait behind what the client says: their answers make room for more of it.
    pub polls: mpsc::Sender<Poll>,
    pub is_websocket: AtomicBool,
    is_revoked: AtomicBool,
    /// Rung when something about the session's user has changed.
    pub bell: Notify,
    /// Rung as well, once the session is over a WebSocket.
    conn: OnceLock<Weak<Conn>>,
}

/// Packets, as soon as there are any.
pub type Poll = oneshot::Sender<String>;

/// What a session that polls is asked.
pub struct Inbox {
    pub mail: mpsc::Receiver<Ask>,
    pub polls: mpsc::Receiver<Poll>,
}

impl Watcher for Handle {
    fn wake(&self) {
        self.bell.notify_one();
        if let Some(conn) = self.conn.get().and_then(Weak::upgrade) {
            conn.wake();
        }
    }
}

impl Handle {
    pub fn new(is_websocket: bool) -> (Self, Inbox) {
        // A body may be large: one waits here for those before it, and further ones with whoever brings them.
        let ((mail_tx, mail), (polls_tx, polls)) = (mpsc::channel(1), mpsc::channel(2));
        let handle = Self {
            mail: mail_tx,
            polls: polls_tx,
            is_websocket: AtomicBool::new(is_websocket),
            is_revoked: AtomicBool::new(false),
            bell: Notify::new(),
            conn: OnceLock::new(),
        };
        (handle, Inbox { mail, polls })
    }

    /// The session goes on over `conn`.
    pub fn go_over(&self, conn: &Arc<Conn>) {
        let _ = self.conn.set(Arc::downgrade(conn));
        // Whatever has rung before.
        conn.wake();
    }

    /// The token that the session rests on is nobody's any more, or another's.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }
}

/// A session's place among those whose user is known; it leaves with this.
pub struct Entry {
    sessions: Arc<Sessions>,
    handle: Arc<Handle>,
    session: String,
    user: Arc<str>,
    token: Option<Arc<str>>,
}

impl Sessions {
    pub fn open(&self, sid: &str, handle: &Arc<Handle>) {
        self.transports().insert(sid.to_owned(), Arc::clone(handle));
    }

    pub fn close(&self, sid: &str) {
        self.transports().remove(sid);
    }

    pub fn find(&self, sid: &str) -> Option<Arc<Handle>> {
        self.transports().get(sid).cloned()
    }

    /// Takes note of whose a session is. `token` is one that has to be looked up again.
    pub fn enter(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        session: &str,
        user: &str,
        token: Option<&str>,
    ) -> Entry {
        let user: Arc<str> = user.into();
        let mut known = self.known();
        let of_user = known.users.entry(Arc::clone(&user)).or_default();
        of_user.insert(session.to_owned(), Arc::clone(handle));
        let token = token.map(|token| {
            let token: Arc<str> = token.into();
            let new = || Holders { user: Arc::clone(&user), handles: Vec::new() };
            let holders = known.tokens.entry(Arc::clone(&token)).or_insert_with(new);
            holders.handles.push(Arc::clone(handle));
            token
        });
        Entry {
            sessions: Arc::clone(self),
            handle: Arc::clone(handle),
            session: session.to_owned(),
            user,
            token,
        }
    }

    /// The sessions of `user` that are connected here now; of everybody for `None`.
    pub fn of(&self, user: Option<&str>) -> Vec<String> {
        let known = self.known();
        match user {
            Some(user) => known.users.get(user).into_iter().flat_map(|own| own.keys().cloned()).collect(),
            None => known.users.values().flat_map(|own| own.keys().cloned()).collect(),
        }
    }

    /// Whether tokens can be looked up at the moment; `true` if that is news.
    pub fn looked_up(&self, is_done: bool) -> bool {
        self.is_failing.swap(!is_done, Ordering::Relaxed) == is_done
    }

    fn transports(&self) -> MutexGuard<'_, HashMap<String, Arc<Handle>>> {
        self.transports.lock().expect("no panic while holding the lock")
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while holding the lock")
    }

    fn tokens(&self) -> Vec<Arc<str>> {
        self.known().tokens.keys().cloned().collect()
    }

    /// Ends the sessions of those of `asked` whose user in `found` is not theirs.
    fn compare(&self, asked: &[&str], found: &HashMap<String, String>) {
        let known = self.known();
        for token in asked {
            let Some(holders) = known.tokens.get(*token) else { continue };
            if found.get(*token).is_some_and(|user| **user == *holders.user) {
                continue;
            }
            for handle in &holders.handles {
                handle.is_revoked.store(true, Ordering::Release);
                handle.wake();
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut known = self.sessions.known();
        if let Some(own) = known.users.get_mut(&self.user) {
            own.remove(&self.session);
            if own.is_empty() {
                known.users.remove(&self.user);
            }
        }
        let Some(token) = &self.token else { return };
        if let Some(holders) = known.tokens.get_mut(token) {
            holders.handles.retain(|handle| !Arc::ptr_eq(handle, &self.handle));
            if holders.handles.is_empty() {
                known.tokens.remove(token);
            }
        }
    }
}

/// Looks up the tokens of all connected clients again and again, a bounded number at once.
pub async fn recheck(door: Door, lookup: Arc<dyn TokenLookup>) {
    let (stop, sessions) = (door.services.stop().clone(), Arc::clone(&door.sessions));
    let every = Duration::from_millis(door.config.socketio.recheck_ms.max(1));
    // Nobody's: a table that is not there shows at the start, and not with the first client; so does that it is back.
    let nobodys: Vec<Arc<str>> = vec![Arc::from("")];
    let mut tokens = nobodys.clone();
    loop {
        for some in tokens.chunks(lookup.tokens_max()) {
            let asked: Vec<&str> = some.iter().map(|token| &**token).collect();
            let found = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                found = lookup.find(&asked) => found,
            };
            match found {
                Ok(found) => {
                    sessions.compare(&asked, &found);
                    if sessions.looked_up(true) {
                        tracing::info!("clients' tokens can be looked up again");
                    }
                }
                // Nothing is known of anybody then: connections stay until the database answers.
                Err(error) => {
                    if sessions.looked_up(false) {
                        tracing::warn!(
                            %error,
                            "clients' tokens cannot be looked up: who comes is sent away, to come again; who is here stays"
                        );
                    }
                    break;
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        tokens = sessions.tokens();
        if tokens.is_empty() && sessions.is_failing.load(Ordering::Relaxed) {
            tokens.clone_from(&nobodys);
        }
    }
}
