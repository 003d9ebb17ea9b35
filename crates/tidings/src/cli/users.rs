//! `tidings users`: what an admin does with users, through a running server.
//!
//! Owns: the words, and that a password is never an argument, where other users of the machine see it. Never:
//! touches the data directory but for its secret.

use super::client::{self, Client, Failure, encode};
use super::grants::GrantArgs;
use super::lines::Lines;
use super::{Context, Place, Usage};
use anyhow::{Result, anyhow, bail};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use tidings::{Code, Uuid};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List users in name order.
    List {
        #[command(flatten)]
        client: client::Args,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Add a user; the password is asked for, or read from stdin.
    Add {
        #[command(flatten)]
        client: client::Args,
        name: String,
        #[command(flatten)]
        grants: GrantArgs,
        /// The user's own collection
        #[arg(long, value_name = "UUID")]
        collection: Option<Uuid>,
    },
    /// Set a user's password, which is asked for or read from stdin. Ends the user's tokens.
    Password {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        user: String,
    },
    /// Set what a user may publish to and subscribe to; without any topic, nothing.
    Grant {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        user: String,
        #[command(flatten)]
        grants: GrantArgs,
    },
    /// End a user's tokens and connections, and let nobody log in as that one.
    Revoke {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        user: String,
    },
    /// Let a revoked user log in again.
    Restore {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        user: String,
    },
    /// Forget a user.
    Remove {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        user: String,
    },
    /// Add users from NDJSON on stdin: `name` and `hash` (argon2 or bcrypt), further `id`, `collection_id`,
    /// `publish`, `subscribe`. Names that are taken are passed over.
    Import {
        #[command(flatten)]
        client: client::Args,
    },
}

/// A user as the server shows it.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    id: Uuid,
    name: String,
    collection_id: Option<Uuid>,
    publish: Vec<String>,
    subscribe: Vec<String>,
    created_at: String,
    revoked: bool,
}

#[derive(Deserialize)]
struct Page {
    users: Vec<Shown>,
}

impl Args {
    pub fn place(&self) -> &Place {
        &self.client().place
    }

    fn client(&self) -> &client::Args {
        match &self.what {
            What::List { client, .. }
            | What::Add { client, .. }
            | What::Password { client, .. }
            | What::Grant { client, .. }
            | What::Revoke { client, .. }
            | What::Restore { client, .. }
            | What::Remove { client, .. }
            | What::Import { client } => client,
        }
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(args.client(), context)?;
    match args.what {
        What::List { json, .. } => list(&client, json).await,
        What::Add { name, grants, collection, .. } => {
            let body = json!({
                "name": name,
                "password": password()?,
                "publish": grants.publish(),
                "subscribe": grants.subscribe(),
                "collection_id": collection,
            });
            let added: Shown = send(&client, Method::POST, "/v1/users", Some(&body)).await?;
            Ok(writeln!(std::io::stdout(), "{}", added.id)?)
        }
        What::Password { user, .. } => {
            let path = path(&client, &user).await?;
            let body = json!({ "password": password()? });
            send::<Shown>(&client, Method::PATCH, &path, Some(&body)).await.map(drop)
        }
        What::Grant { user, grants, .. } => {
            let path = path(&client, &user).await?;
            let body = json!({ "publish": grants.publish(), "subscribe": grants.subscribe() });
            send::<Shown>(&client, Method::PATCH, &path, Some(&body)).await.map(drop)
        }
        What::Revoke { user, .. } => {
            let path = path(&client, &user).await? + "/revoke";
            send::<Shown>(&client, Method::POST, &path, None).await.map(drop)
        }
        What::Restore { user, .. } => {
            let path = path(&client, &user).await? + "/restore";
            send::<Shown>(&client, Method::POST, &path, None).await.map(drop)
        }
        What::Remove { user, .. } => {
            let request = client.request(Method::DELETE, &path(&client, &user).await?)?;
            Ok(client.send(request).await.map(drop)?)
        }
        What::Import { .. } => import(&client).await,
    }
}

async fn send<T: for<'a> Deserialize<'a>>(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<T> {
    let request = client.request(method, path)?;
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    Ok(client.json(request).await?)
}

/// `/v1/users/ID` of a name, or else of an id.
async fn path(client: &Client, user: &str) -> Result<String> {
    let by_name = format!("/v1/users?name={}", encode(user));
    let found: Page = send(client, Method::GET, &by_name, None).await?;
    let id = found.users.first().map(|user| user.id).or_else(|| user.parse().ok());
    id.map(|id| format!("/v1/users/{id}"))
        .ok_or_else(|| anyhow!("there is no user {user} ({})", Code::UserUnknown))
}

/// From the terminal, twice and unseen, or else the first line of stdin.
fn password() -> Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Again: ")? != password {
            bail!(Usage("the two passwords differ".into()));
        }
        return Ok(password);
    }
    let mut line = String::new();
    if stdin.read_line(&mut line)? == 0 {
        bail!(Usage("the password is read from stdin, which is empty".into()));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn list(client: &Client, as_json: bool) -> Result<()> {
    let mut all: Vec<Shown> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |last| format!("?after={}", encode(&last.name)));
        let page: Page = send(client, Method::GET, &format!("/v1/users{after}"), None).await?;
        if page.users.is_empty() {
            break;
        }
        all.extend(page.users);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if as_json {
        for user in &all {
            writeln!(out, "{}", serde_json::to_string(user)?)?;
        }
        return Ok(out.flush()?);
    }
    let width = all.iter().map(|u| u.name.chars().count()).max().unwrap_or(0).max("NAME".len());
    writeln!(out, "{:width$}  {:36}  {:7}  PUBLISH / SUBSCRIBE", "NAME", "ID", "STATE")?;
    for Shown { id, name, publish, subscribe, revoked, .. } in &all {
        let state = if *revoked { "revoked" } else { "active" };
        let topics = |grants: &[String]| if grants.is_empty() { "-".into() } else { grants.join(",") };
        let (publish, subscribe) = (topics(publish), topics(subscribe));
        writeln!(out, "{name:width$}  {id:36}  {state:7}  {publish} / {subscribe}")?;
    }
    Ok(out.flush()?)
}

/// Adds each line's user. Stops at the first that cannot be taken for another reason than its name.
async fn import(client: &Client) -> Result<()> {
    let mut lines = Lines::of(std::io::stdin());
    let (mut added, mut passed_over, mut fault) = (0, 0, None);
    while let Some(line) = lines.batch(1, u64::MAX).await?.pop() {
        if line.text.trim().is_empty() {
            continue;
        }
        let request = client.request(Method::POST, "/v1/users")?;
        let request = request.header("content-type", "application/json").body(line.text);
        match client.send(request).await {
            Ok(_) => added += 1,
            Err(Failure::Refused { code, .. }) if code == Code::UserNameTaken.as_str() => passed_over += 1,
            Err(failure) => {
                fault = Some(anyhow!("line {}: {failure}", line.number));
                break;
            }
        }
    }
    eprintln!("added {added} users, passed over {passed_over} whose names are taken");
    fault.map_or(Ok(()), Err)
}
