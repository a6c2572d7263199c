//! Going through tables of the fold a page at a time.

use crate::store::{Fold, Row, StoreError};

/// Rows of a page.
pub(super) const PAGE: usize = 1_024;

/// Tables that are still to be gone through, between other work, and the place in the last of them.
#[derive(Debug, Default)]
pub(super) struct Tables {
    left: Vec<&'static [u8]>,
    after: Option<Vec<u8>>,
}

impl Tables {
    pub(super) fn new(tables: &[&'static [u8]]) -> Self {
        Self { left: tables.to_vec(), after: None }
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// The next page; it may be empty before the last one.
    pub(super) fn page(&mut self, fold: &dyn Fold) -> Result<Vec<Row>, StoreError> {
        let Some(table) = self.left.last() else { return Ok(Vec::new()) };
        let page = fold.scan(table, self.after.as_deref(), PAGE)?;
        if page.len() < PAGE {
            self.left.pop();
            self.after = None;
        } else {
            self.after = page.last().map(|(key, _)| key.clone());
        }
        Ok(page)
    }
}
