//! What the database says about itself: tables, keys, types.
//!
//! Owns: which table a configured name means, and the form of every type. Asked over a connection of its own.
//! Never: changes anything.

use super::form::Form;
use super::lsn::Lsn;
use super::sentence::{failed, quoted};
use crate::postgres::Address;
use crate::source::roster::{Known, Roster};
use crate::source::{Desk, Fault, Settings};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::TopicName;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::AbortOnDropHandle;

/// The server gives up on queries about itself, instead of us waiting behind somebody's lock for ever.
const INTRODUCTION: &str = "set statement_timeout = '30s'; set timezone = 'UTC'; set datestyle = 'ISO'; \
    set intervalstyle = 'iso_8601'; set bytea_output = 'hex'; set extra_float_digits = 1";

/// A connection for questions.
pub struct Catalog {
    pub client: Arc<Client>,
    forms: HashMap<u32, Form>,
    _connection: AbortOnDropHandle<()>,
}

/// A table to capture, as the database knows it.
#[derive(Debug, Clone)]
pub struct Captured {
    pub id: u32,
    pub schema: String,
    pub name: String,
    pub topic: TopicName,
    /// `d` its primary key, `f` all columns, `i` an index, `n` nothing.
    pub identity: char,
    pub is_partitioned: bool,
    /// The columns of its primary key, in the key's order.
    pub key: Vec<String>,
    /// What was committed before this is among the rows that its topic begins with.
    pub since: Lsn,
}

impl Captured {
    /// How the roster knows it.
    pub fn entry(&self) -> (&TopicName, Known) {
        (&self.topic, Known { id: self.id, key: self.key.clone(), identity: self.identity })
    }

    /// The table as SQL takes it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// Of those of `tables` that were made anew, the ones that they have replaced: their last changes may still come.
pub fn replaced(roster: &Roster<Lsn>, tables: &[Captured]) -> Vec<Captured> {
    let former = |table: &Captured| {
        let entry = roster.of(&table.topic).filter(|entry| entry.table.id != table.id)?;
        let Known { id, key, identity } = entry.table.clone();
        Some(Captured { id, key, identity, since: entry.since.unwrap_or_default(), ..table.clone() })
    };
    tables.iter().filter_map(former).collect()
}

/// A run ends with its table: the next one finds that of the same name, or says that there is none.
pub fn dropped(table: &Captured) -> Fault {
    Fault::lost(format!("table {} was dropped, or another one has its name now", table.quoted()))
}

impl Catalog {
    pub async fn connect(address: &Address) -> Result<Self, Fault> {
        Self::connect_hearing(address, None).await
    }

    /// As [`Catalog::connect`]; `bell` rings with every notification.
    pub async fn connect_hearing(
        address: &Address,
        bell: Option<Arc<tokio::sync::Notify>>,
    ) -> Result<Self, Fault> {
        let mut config = address.config.clone();
        config.connect_timeout(Duration::from_secs(10));
        let (client, connection) = match &address.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(|e| failed(&e))?;
                (client, AbortOnDropHandle::new(tokio::spawn(hear(connection, bell))))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(|e| failed(&e))?;
                (client, AbortOnDropHandle::new(tokio::spawn(hear(connection, bell))))
            }
        };
        client.batch_execute(INTRODUCTION).await.map_err(|e| failed(&e))?;
        Ok(Self { client: Arc::new(client), forms: HashMap::new(), _connection: connection })
    }

    /// The connection for a transaction.
    ///
    /// # Panics
    /// When somebody else has it too; only a running stream lets it be shared.
    pub fn alone(&mut self) -> &mut Client {
        Arc::get_mut(&mut self.client).expect("no stream runs")
    }

    /// The tables that `names` mean, under topics that begin with `prefix`.
    pub async fn tables(&self, names: &[String], prefix: &str) -> Result<Vec<Captured>, Fault> {
        let mut tables = Vec::new();
        for name in names {
            tables.push(self.table(name, prefix).await?);
        }
        Ok(tables)
    }

    async fn table(&self, name: &str, prefix: &str) -> Result<Captured, Fault> {
        let query = "select c.oid, n.nspname, c.relname, c.relkind::text, c.relreplident::text, \
            n.nspname is not distinct from current_schema(), c.relpersistence::text \
            from pg_class c join pg_namespace n on n.oid = c.relnamespace \
            where c.relkind in ('r', 'p', 'v', 'm', 'f') and (n.nspname || '.' || c.relname = $1 \
            or (c.relname = $1 and n.nspname = current_schema()))";
        let found = self.client.query(query, &[&name]).await.map_err(|e| failed(&e))?;
        let row = match &found[..] {
            [row] => row,
            [] => {
                return Err(Fault::setting(format!(
                    "there is no table {name} in the database; correct `tables` (names as the database writes them, \
                     without quotes, as table or schema.table), or create it"
                )));
            }
            _ => {
                return Err(Fault::setting(format!(
                    "{name} may mean more than one table; write schema.table in `tables`"
                )));
            }
        };
        let (kind, persistence): (&str, &str) = (row.get(3), row.get(6));
        if !matches!(kind, "r" | "p") || persistence != "p" {
            return Err(Fault::setting(format!(
                "{name} is a view, or a foreign, temporary or unlogged table, whose changes PostgreSQL does not keep; \
                 take it out of `tables`"
            )));
        }
        let (id, schema, name): (u32, String, String) = (row.get(0), row.get(1), row.get(2));
        let topic = TopicName::captured((!row.get::<_, bool>(5)).then_some(schema.as_str()), &name, prefix)
            .map_err(|e| {
            Fault::setting(format!("table {schema}.{name} cannot be a topic: {e}; change `prefix`"))
        })?;
        let identity = row.get::<_, &str>(4).chars().next().unwrap_or('d');
        let key = self.key(id).await?;
        Ok(Captured {
            id,
            schema,
            name,
            topic,
            identity,
            is_partitioned: kind == "p",
            key,
            since: Lsn::default(),
        })
    }

    /// The columns of a table's primary key now, in the key's order.
    pub async fn key(&self, table: u32) -> Result<Vec<String>, Fault> {
        let query = "select a.attname from pg_index i cross join unnest(i.indkey) with ordinality k(attnum, place) \
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
            where i.indrelid = $1 and i.indisprimary order by k.place";
        let rows = self.client.query(query, &[&table]).await.map_err(|e| failed(&e))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The key of a captured table now; of one that is gone, as it was.
    pub async fn key_of(&self, table: &Captured) -> Result<Vec<String>, Fault> {
        let now = self.key(table.id).await?;
        if now.is_empty() && self.gone(std::slice::from_ref(table)).await?.is_some() {
            return Ok(table.key.clone());
        }
        Ok(now)
    }

    /// One of `tables` that was dropped, or whose name is another one's now.
    pub async fn gone<'a>(&self, tables: &'a [Captured]) -> Result<Option<&'a Captured>, Fault> {
        let each = |part: fn(&Captured) -> &str| tables.iter().map(part).collect::<Vec<_>>();
        let ids: Vec<u32> = tables.iter().map(|table| table.id).collect();
        let query = "select t.id from unnest($1::oid[], $2::text[], $3::text[]) t(id, schema, name) \
            where not exists (select from pg_class c where c.oid = t.id) or exists (select from pg_class c \
            join pg_namespace n on n.oid = c.relnamespace where n.nspname = t.schema and c.relname = t.name \
            and c.oid <> t.id) limit 1";
        let (schemas, names) = (each(|table| &table.schema), each(|table| &table.name));
        let found = self.client.query_opt(query, &[&ids, &schemas, &names]).await.map_err(|e| failed(&e))?;
        Ok(found.and_then(|row| tables.iter().find(|table| table.id == row.get::<_, u32>(0))))
    }

    /// How far the database has written.
    pub async fn written(&self) -> Result<Lsn, Fault> {
        let query = "select pg_current_wal_lsn()::text";
        let row = self.client.query_one(query, &[]).await.map_err(|e| failed(&e))?;
        row.get::<_, &str>(0)
            .parse()
            .map_err(|()| Fault::lost("PostgreSQL does not say how far it has written"))
    }

    /// Makes the topics of `tables` the source's own, once what the settings say of each is found to fit it.
    pub async fn take(&mut self, desk: &Desk, tables: &[Captured], settings: &Settings) -> Result<(), Fault> {
        for (captured, table) in tables.iter().zip(&settings.tables) {
            let columns = self.columns(captured.id, true).await?.into_iter();
            table.check_columns(&columns.map(|(name, _)| name).collect::<Vec<_>>())?;
        }
        desk.take(tables.iter().map(|table| table.topic.clone()).collect(), &settings.tables).await
    }

    /// A table's columns with the forms of their types. Generated ones only where asked for.
    pub async fn columns(&mut self, table: u32, with_generated: bool) -> Result<Vec<(String, Form)>, Fault> {
        let query = "select attname, atttypid from pg_attribute where attrelid = $1 and attnum > 0 \
            and not attisdropped and ($2 or attgenerated = '') order by attnum";
        let rows = self.client.query(query, &[&table, &with_generated]).await.map_err(|e| failed(&e))?;
        let mut columns = Vec::new();
        for row in rows {
            columns.push((row.get(0), self.form(row.get(1)).await?));
        }
        Ok(columns)
    }

    /// A table's columns as they are now, asked while another question is still being answered.
    pub async fn columns_now(&self, table: u32) -> Result<Vec<(String, Form)>, Fault> {
        let query = "select attname, atttypid from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped";
        let rows = self.client.query(query, &[&table]).await.map_err(|e| failed(&e))?;
        let mut columns = Vec::new();
        for row in rows {
            columns.push((row.get(0), self.ask_form(row.get(1), 8).await?));
        }
        Ok(columns)
    }

    /// The form of a type, asked for once.
    pub async fn form(&mut self, type_id: u32) -> Result<Form, Fault> {
        if let Some(form) = Form::of_builtin(type_id) {
            return Ok(form);
        }
        if let Some(form) = self.forms.get(&type_id) {
            return Ok(form.clone());
        }
        let form = self.ask_form(type_id, 8).await?;
        self.forms.insert(type_id, form.clone());
        Ok(form)
    }

    fn ask_form<'a>(
        &'a self,
        type_id: u32,
        depth: u8,
    ) -> Pin<Box<dyn Future<Output = Result<Form, Fault>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(form) = Form::of_builtin(type_id) {
                return Ok(form);
            }
            let query = "select t.typtype::text, t.typcategory::text, t.typbasetype, t.typelem, t.typrelid, \
                coalesce(e.typdelim, ',')::text from pg_type t left join pg_type e on e.oid = t.typelem where t.oid = $1";
            let row = self.client.query_opt(query, &[&type_id]).await.map_err(|e| failed(&e))?;
            let Some(row) = row.filter(|_| depth > 0) else { return Ok(Form::Text) };
            match (row.get::<_, &str>(0), row.get::<_, &str>(1)) {
                ("d", _) => self.ask_form(row.get(2), depth - 1).await,
                ("c", _) => {
                    let query = "select attname, atttypid from pg_attribute \
                        where attrelid = $1 and attnum > 0 and not attisdropped order by attnum";
                    let fields =
                        self.client.query(query, &[&row.get::<_, u32>(4)]).await.map_err(|e| failed(&e))?;
                    let mut forms = Vec::new();
                    for field in fields {
                        forms.push((field.get(0), self.ask_form(field.get(1), depth - 1).await?));
                    }
                    Ok(Form::Composite(forms.into()))
                }
                (_, "A") => {
                    let element = self.ask_form(row.get(3), depth - 1).await?;
                    let delimiter = row.get::<_, &str>(5).chars().next().unwrap_or(',');
                    Ok(Form::List(Arc::new(element), delimiter))
                }
                _ => Ok(Form::Text),
            }
        })
    }
}

async fn hear<S, T>(mut connection: tokio_postgres::Connection<S, T>, bell: Option<Arc<tokio::sync::Notify>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
        match message {
            Some(Ok(tokio_postgres::AsyncMessage::Notification(_))) => {
                bell.iter().for_each(|bell| bell.notify_one());
            }
            Some(Ok(_)) => {}
            // Whoever asks next hears of it; whoever waits for the bell looks.
            Some(Err(_)) | None => {
                bell.iter().for_each(|bell| bell.notify_one());
                return;
            }
        }
    }
}
