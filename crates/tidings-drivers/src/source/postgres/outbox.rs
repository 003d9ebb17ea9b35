//! The table that triggers fill, where the role may not replicate.
//!
//! Owns: what is made in the database for it, by names that end in the source's: the table, two functions, and two
//! triggers on each captured table. They run with our role's rights, so applications need none.
//! Never: makes an application wait for us, or lets a notification carry data.

use super::catalog::{Captured, Catalog};
use super::sentence::{failed, literal, quoted};
use crate::source::Fault;

/// Where changes are put, and who rings.
pub struct Outbox {
    schema: String,
    /// Of the table and the channel.
    pub name: String,
}

impl Outbox {
    /// The outbox of a source in the default schema.
    pub async fn of(catalog: &Catalog, name: String) -> Result<Self, Fault> {
        let row =
            catalog.client.query_one("select current_schema()::text", &[]).await.map_err(|e| failed(&e))?;
        let schema = row.get::<_, Option<String>>(0).unwrap_or_else(|| "public".into());
        Ok(Self { schema, name })
    }

    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    fn function(&self, what: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&format!("{}_{what}", self.name)))
    }

    /// Makes what is missing, and takes the triggers away from tables that are no longer captured.
    pub async fn install(&self, catalog: &mut Catalog, tables: &[Captured]) -> Result<(), Fault> {
        self.make(catalog).await.map_err(|error| match error.code().map(|code| code.code()) {
            Some("42501") => Fault::setting(format!(
                "the role may not make the outbox ({}): grant create on schema {} to it",
                error.as_db_error().map_or_else(String::new, |e| e.message().to_owned()),
                quoted(&self.schema)
            )),
            _ => failed(&error),
        })?;
        for table in tables {
            self.watch(catalog, table).await.map_err(|error| match error.code().map(|code| code.code()) {
                Some("42501") => Fault::setting(format!(
                    "the role may not make triggers on {0}: grant trigger on {0} to it",
                    table.quoted()
                )),
                _ => failed(&error),
            })?;
        }
        let kept: Vec<u32> = tables.iter().map(|table| table.id).collect();
        self.unwatch(catalog, &kept).await
    }

    /// Whether a table has its triggers: without them it changes unheard.
    pub async fn hears(&self, catalog: &Catalog, table: &Captured) -> Result<bool, tokio_postgres::Error> {
        let query =
            "select count(*) from pg_trigger where tgrelid = $1 and tgname in ($2, $3) and tgenabled <> 'D'";
        let [row, statement] = self.triggers();
        let found = catalog.client.query_one(query, &[&table.id, &row, &statement]).await?;
        Ok(found.get::<_, i64>(0) == 2)
    }

    async fn make(&self, catalog: &mut Catalog) -> Result<(), tokio_postgres::Error> {
        let (table, row, statement) = (self.quoted(), self.function("row"), self.function("statement"));
        let channel = literal(&self.name);
        // What a value looks like must not depend on the settings of whoever writes it.
        let text = format!(
            "create table if not exists {table} (id bigint generated always as identity primary key, \
             xid xid8 not null default pg_current_xact_id(), made_at timestamptz not null default clock_timestamp(), \
             relation oid not null, operation text not null, old json, new json) \
             with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
             create or replace function {row}() returns trigger language plpgsql security definer \
             set search_path = pg_catalog, pg_temp set timezone = 'UTC' set intervalstyle = 'iso_8601' \
             set bytea_output = 'hex' set extra_float_digits = 1 as $body$
             begin
               if tg_op = 'INSERT' then
                 insert into {table} (relation, operation, new) values (tg_argv[0]::oid, 'insert', row_to_json(new));
               elsif tg_op = 'UPDATE' then
                 insert into {table} (relation, operation, old, new)
                   values (tg_argv[0]::oid, 'update', row_to_json(old), row_to_json(new));
               else
                 insert into {table} (relation, operation, old) values (tg_argv[0]::oid, 'delete', row_to_json(old));
               end if;
               return null;
             end $body$;
             create or replace function {statement}() returns trigger language plpgsql security definer \
             set search_path = pg_catalog, pg_temp as $body$
             begin
               if tg_op = 'TRUNCATE' then
                 insert into {table} (relation, operation) values (tg_argv[0]::oid, 'truncate');
               end if;
               perform pg_notify({channel}, '');
               return null;
             end $body$;"
        );
        let transaction = catalog.alone().transaction().await?;
        transaction.batch_execute(&text).await?;
        transaction.commit().await
    }

    /// Puts both triggers on a table, unless they are there: making one waits for everybody who writes.
    async fn watch(&self, catalog: &mut Catalog, table: &Captured) -> Result<(), tokio_postgres::Error> {
        if self.hears(catalog, table).await? {
            return Ok(());
        }
        let [row, statement] = self.triggers();
        let (on, id) = (table.quoted(), table.id);
        let make = |name: &str, when: &str, each: &str, function: &str| {
            format!(
                "drop trigger if exists {0} on {on}; create trigger {0} after {when} on {on} for each {each} \
                 execute function {1}({id});",
                quoted(name),
                self.function(function)
            )
        };
        let text = [
            "set local lock_timeout = '20s';".to_owned(),
            make(&row, "insert or update or delete", "row", "row"),
            make(&statement, "insert or update or delete or truncate", "statement", "statement"),
        ];
        let transaction = catalog.alone().transaction().await?;
        transaction.batch_execute(&text.concat()).await?;
        transaction.commit().await
    }

    /// Takes the triggers away from all tables but `kept`.
    pub async fn unwatch(&self, catalog: &Catalog, kept: &[u32]) -> Result<(), Fault> {
        let query = "select t.tgname, n.nspname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid \
            join pg_namespace n on n.oid = c.relnamespace where t.tgname in ($1, $2) and t.tgparentid = 0 \
            and not t.tgisinternal and not t.tgrelid = any($3)";
        let [row, statement] = self.triggers();
        let found = catalog.client.query(query, &[&row, &statement, &kept]).await.map_err(|e| failed(&e))?;
        for trigger in found {
            let (name, schema, table): (&str, &str, &str) = (trigger.get(0), trigger.get(1), trigger.get(2));
            let text =
                format!("drop trigger if exists {} on {}.{}", quoted(name), quoted(schema), quoted(table));
            catalog.client.batch_execute(&text).await.map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    fn triggers(&self) -> [String; 2] {
        [format!("{}_row", self.name), format!("{}_statement", self.name)]
    }
}
