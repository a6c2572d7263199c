//! The digest by which two states are compared.

use ring::digest::{Context, SHA256};

use crate::store::{Fold, StoreError};

/// SHA-256 over every row of a fold, in order, each part with its length. Rows of the store itself (first byte zero) and
/// the root that ties a fold to its journal are left out: they are not state.
pub fn fold_digest(fold: &dyn Fold) -> Result<[u8; 32], StoreError> {
    let mut context = Context::new(&SHA256);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = fold.scan(&[], after.as_deref(), 1_000)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in page.iter().filter(|(key, _)| key.first() != Some(&0) && !crate::state::is_tie_row(key)) {
            for part in [key, value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}
