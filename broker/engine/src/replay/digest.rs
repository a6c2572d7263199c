//! The digest by which two states are compared.

use std::sync::atomic::{AtomicUsize, Ordering};

use ring::digest::{Context, SHA256};

use crate::store::{Fold, StoreError};

/// To begin a page, each file of the fold is looked into.
const PAGE: usize = 20_000;

/// SHA-256 over the letter of each table of a fold and the SHA-256 of its rows, in order, each part of a row with its length.
/// Rows of the store itself (first byte zero) and the rows that tie a fold to its journal, which are tables of their own, are
/// left out: they are not state.
/// All cores work at it.
pub fn fold_digest(fold: &dyn Fold) -> Result<[u8; 32], StoreError> {
    let mut tables = Vec::new();
    for letter in 1..=u8::MAX {
        let first = fold.scan(&[letter], None, 1)?;
        if first.iter().any(|(key, _)| !crate::state::is_tie_row(key)) {
            tables.push(letter);
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(letter) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*letter, table_digest(fold, *letter)?));
        }
        Ok::<_, StoreError>(done)
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut digests = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(StoreError::Read("a thread that reads the fold panicked".to_owned())))
        });
        done.collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    digests.sort_unstable();
    let mut context = Context::new(&SHA256);
    for (letter, digest) in digests {
        context.update(&[letter]);
        context.update(&digest);
    }
    Ok(finish(context))
}

fn table_digest(fold: &dyn Fold, letter: u8) -> Result<[u8; 32], StoreError> {
    let mut context = Context::new(&SHA256);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = fold.scan(&[letter], after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in &page {
            for part in [key, value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
    }
    Ok(finish(context))
}

fn finish(context: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
