//! The schema, step by step. Steps are only ever added, never changed.

use rusqlite::{Connection, TransactionBehavior};

use crate::Error;

const STEPS: &[&str] =
    &["create table settings (id integer primary key check (id = 1), document text not null) strict"];

/// Brings the file to the newest version.
pub(crate) fn apply(connection: &mut Connection) -> Result<(), Error> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    // Read under the write lock: another Berth may be opening the same new file.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
